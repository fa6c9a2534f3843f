__version__ = "0.1.0"

_HOMES = dict(restore='app.library', LM4LV='model.next_element', TaskModels='model.task_models', train='training.trainer',
              TrainConfig='training.trainer', evaluate='evaluation.restoration', Photos='images.photos', load_vision='vision.loading')

def __getattr__(name):
    "Public names are looked up at their first use, so that `import lm4lv` takes no time."
    if name not in _HOMES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)

def __dir__(): return [*globals(), *_HOMES]
