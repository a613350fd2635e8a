"""What lmms-eval finds by the entry point in `pyproject.toml`: where our model is."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(
    model_id="openherd",
    chat_class_path="multimodal.evaluation.harness.lmms_eval_model.OpenherdLMM",
)
