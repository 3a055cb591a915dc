"""Everything that one viewer knows, in plain Python: no Qt, no napari; torch is imported when first needed."""

from __future__ import annotations

from napari_sam_lora.session.adapters import AdapterEntry, AdapterLibrary
from napari_sam_lora.session.edits import CommitPolicy, EditResult
from napari_sam_lora.session.labelset import LabelSet
from napari_sam_lora.session.planes import ArraySource, ImageSource, PlaneKey
from napari_sam_lora.session.preview import MaskOptions, Preview
from napari_sam_lora.session.prompts import Draft, PromptItem
from napari_sam_lora.session.proposals import Proposal, ProposedChange
from napari_sam_lora.session.records import ObjectClass, ObjectRecord, ObjectStats, StoredPrompts
from napari_sam_lora.session.session import Session
from napari_sam_lora.session.stores import ArrayStore, LabelStore
from napari_sam_lora.session.training import TrainingEvent, TrainingJob, TrainingPlane
from napari_sam_lora.session.worker import CancelToken, JobCancelledError, Priority, TorchThread

__all__ = [
    "AdapterEntry",
    "AdapterLibrary",
    "ArraySource",
    "ArrayStore",
    "CancelToken",
    "CommitPolicy",
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
