from mmpretrain.apis import ImageRetrievalInferencer, get_model, list_models

__all__ = ['ImageRetrievalInferencer', 'get_model', 'list_models']
