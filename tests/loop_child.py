"A small training run in a process of its own: loop_child.py KIND OUT RESULT [setting=value ...]"
import json, sys, time
import torch
from safetensors.torch import save_file
from lm4lv.core.loop import FitConfig, fit
from lm4lv.training.trainer import set_values

class Numbers(torch.utils.data.Dataset):
    def __init__(self, pause=0): self.pause = pause
    def __len__(self): return 32
    def __getitem__(self, i):
        time.sleep(self.pause)
        x = torch.randn(4, generator=torch.Generator().manual_seed(i))
        return dict(x=x, y=x.sum(), kind=i % 2)

class Bank(torch.nn.Module):
    "Like the task tokens: which parameter is used depends on the sample."
    def __init__(self):
        super().__init__()
        self.line, self.bank = torch.nn.Linear(4, 1), torch.nn.ParameterList(torch.zeros(1) for _ in range(3))
    def forward(self, x, kinds): return self.line(x) + torch.stack([self.bank[k] for k in kinds])

class Poisoned(Numbers):
    "One sample, which only one of two processes draws, has no number to learn."
    def __getitem__(self, i):
        sample = super().__getitem__(i)
        return dict(sample, y=sample['y'] * float('nan')) if i == 40 else sample

def network(kind):
    torch.manual_seed(0)
    if kind == 'bank': return Bank()
    layers = [torch.nn.Linear(4, 16), torch.nn.GELU(), torch.nn.Linear(16, 1)]
    if kind == 'dropout': layers.insert(2, torch.nn.Dropout(0.2)) # draws from torch's generator in every step
    return torch.nn.Sequential(*layers)

def loss_fn(model, batch):
    kinds = [batch['kind'].tolist()] if isinstance(getattr(model, 'module', model), Bank) else []
    error = model(batch['x'], *kinds)[:, 0] - batch['y']
    return error.pow(2).mean(), dict(worst=error.detach().abs().max())

def run(kind, config, pause=0, **more):
    model = network(kind)
    return model, fit(model, (Poisoned if kind == 'poisoned' else Numbers)(pause), loss_fn, config, progress=False, unused=kind == 'bank', **more)

if __name__ == '__main__':
    kind, out, result, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    config = set_values(FitConfig(steps=100, batch=8, lr=1e-2, warmup=5, log_every=5, save_every=5,
                                  out=None if out == 'none' else out), settings)
    model, log = run(kind, config, pause=0.001 if kind == 'dropout' else 0)
    import os
    if os.environ.get('RANK', '0') == '0':
        save_file(model.state_dict(), result)
        with open(f'{result}.json', 'w') as file: json.dump(log, file)
