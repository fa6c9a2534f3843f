"Tiny random language models of several families, around a real tokenizer."
import torch
from transformers import AutoConfig, AutoModelForCausalLM

FAMILIES = ('llama', 'qwen2', 'gpt2', 'gemma', 'gemma2')

def tiny_llm(kind, tokenizer, seed=0):
    torch.manual_seed(seed)
    shape = dict(n_embd=64, n_layer=2, n_head=4) if kind == 'gpt2' else dict(hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=96)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **shape)
    return AutoModelForCausalLM.from_config(config).eval()

def write_llm(kind, tokenizer, folder, seed=0):
    model = tiny_llm(kind, tokenizer, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
