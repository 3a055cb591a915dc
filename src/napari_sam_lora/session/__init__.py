"""Session of one viewer in plain Python: images, labels, prompts, adapters and training.

Nothing here imports Qt or napari; torch is imported when it is first needed.
"""

from __future__ import annotations

from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.session.adapter_library import AdapterEntry, AdapterLibrary
from napari_sam_lora.session.jobs.worker import CancelToken, JobCancelledError, Priority, TorchThread
from napari_sam_lora.session.labels.edits import CommitPolicy, EditResult
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.proposals import DoubtfulMask, Proposal, ProposedChange
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, ObjectStats, StoredPrompts
from napari_sam_lora.session.labels.stores import ArrayStore, LabelStore
from napari_sam_lora.session.plane_key import ArraySource, ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import Draft, PromptItem
from napari_sam_lora.session.prompting.preview import Preview
from napari_sam_lora.session.session import Session
from napari_sam_lora.session.training_job import TrainingEvent, TrainingJob, TrainingPlane

__all__ = [
    "AdapterEntry",
    "AdapterLibrary",
    "ArraySource",
    "ArrayStore",
    "CancelToken",
    "CommitPolicy",
    "DoubtfulMask",
    "Draft",
    "EditResult",
    "ImageSource",
    "JobCancelledError",
    "LabelSet",
    "LabelStore",
    "MaskOptions",
    "ObjectClass",
    "ObjectRecord",
    "ObjectStats",
    "PlaneKey",
    "Preview",
    "Priority",
    "PromptItem",
    "Proposal",
    "ProposedChange",
    "Session",
    "StoredPrompts",
    "TorchThread",
    "TrainingEvent",
    "TrainingJob",
    "TrainingPlane",
]
