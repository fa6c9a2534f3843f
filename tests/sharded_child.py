"A small LM4LV training in a process of its own, or in one of several: sharded_child.py BASE OUT SAVE [setting=value ...]"
import json, os, sys
from pathlib import Path
import torch
from accelerate import state
from lm4lv.core.loop import FitConfig
from lm4lv.training.trainer import TrainConfig, set_values, train

def shard_on_cpus():
    "Have accelerate run its FSDP2 code on CPUs over gloo; by itself it does so on accelerators alone."
    plain = state.AcceleratorState.__init__
    def patched(self, *arguments, **options):
        plain(self, *arguments, **options)
        if self.distributed_type == state.DistributedType.MULTI_CPU and options.get('fsdp_plugin'):
            self.distributed_type = state.PartialState._shared_state['distributed_type'] = state.DistributedType.FSDP
            self.fsdp_plugin = options['fsdp_plugin']
    state.AcceleratorState.__init__ = patched

def deepspeed_on_cpus():
    "Have accelerate start DeepSpeed on CPUs over gloo; by itself it finds no way to connect its processes."
    os.environ['ACCELERATE_TORCH_DEVICE'] = 'cpu'
    state.PartialState._prepare_backend = lambda *_: ('gloo', state.DistributedType.MULTI_GPU)

if __name__ == '__main__':
    base, out, save, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    if os.environ.get('ACCELERATE_USE_FSDP'): shard_on_cpus()
    if os.environ.get('ACCELERATE_USE_DEEPSPEED'): deepspeed_on_cpus()
    config = TrainConfig(images=f'{base}/photos', llm=f'{base}/llm', vision=f'{base}/mae', tasks=('denoise', 'flip'), task_length=3, warm_start=8,
                         llm_dtype='float32', fit=FitConfig(steps=6, batch=4, lr=1e-2, warmup=2, schedule='constant', log_every=1, save_every=3, out=out))
    model, log = train(set_values(config, settings), save, progress=False)
    kinds = {type(p.data).__name__ for p in model.llm.model.base_model.layers.parameters()}
    said = Path(save).parent/f"said_{os.environ.get('RANK', 0)}.json" # a file for each process: lines of two on one pipe may run into each other
    said.write_text(json.dumps(dict(sharded=model.llm.sharded, kinds=sorted(kinds))))
    torch.distributed.is_initialized() and torch.distributed.destroy_process_group()
