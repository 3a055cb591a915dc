"""Objects found in many planes that the user looks through: which are new, and which were dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.session.everything.found_plane import FoundPlane
from napari_sam_lora.session.labels.proposals import Proposal, ProposedChange
from napari_sam_lora.session.plane_key import PlaneKey

Pixel = tuple[int, int]


class Findings:
    """Found objects by plane, in the order in which they were found. Used on the owner's thread only.

    What the user has dropped is remembered as pixels, so that it stays dropped when objects are cut again.

    Parameters
    ----------
    propose : callable
        Returns the objects of a found plane that are not labelled yet; see `found_plane.propose`.
    """

    def __init__(self, propose: Callable[[FoundPlane], Proposal]) -> None:
        self._propose = propose
        self._found: dict[PlaneKey, FoundPlane] = {}
        self._proposals: dict[PlaneKey, Proposal] = {}
        self._dropped: dict[PlaneKey, set[Pixel]] = {}

    def put(self, found: FoundPlane) -> None:
        """Add a plane, or replace it by one that was cut again."""
        self._found[found.plane] = found
        self._proposals[found.plane] = self._propose(found)

    def propose_again(self, plane: PlaneKey | None = None) -> None:
        """Compare a plane, or all of them, with the present labels."""
        for key in list(self._found) if plane is None else [plane]:
            if key in self._found:
                self._proposals[key] = self._propose(self._found[key])

    def remove_image(self, image: str) -> None:
        """Forget the planes of an image."""
        for plane in [key for key in self._found if key.image == image]:
            del self._found[plane], self._proposals[plane]
            self._dropped.pop(plane, None)

    # What was found

    def found(self, plane: PlaneKey | None) -> FoundPlane | None:
        """Return what was found in a plane; None if it was not searched."""
        return None if plane is None else self._found.get(plane)

    def proposal(self, plane: PlaneKey | None) -> Proposal | None:
        """Return the new objects of a plane, those that were dropped among them; None if it was not searched."""
        return None if plane is None else self._proposals.get(plane)

    @property
    def searched(self) -> list[PlaneKey]:
        """All planes that were searched."""
        return list(self._found)

    @property
    def planes(self) -> list[PlaneKey]:
        """Planes with new objects, dropped or not, image by image."""
        images = list(dict.fromkeys(plane.image for plane in self._found))
        having = [plane for plane in self._found if self._proposals[plane].changes]
        return sorted(having, key=lambda plane: (images.index(plane.image), plane.index))

    @property
    def images(self) -> list[str]:
        """Images with new objects."""
        return list(dict.fromkeys(plane.image for plane in self.planes))

    def count(self) -> int:
        """Count the new objects of all planes, dropped or not."""
        return sum(len(proposal.changes) for proposal in self._proposals.values())

    def stale(self, values: Mapping[str, Any]) -> list[FoundPlane]:
        """List the planes to cut again with these fields of `InstanceConfig`."""
        return [found for found in self._found.values() if not found.is_up_to_date(values)]

    def count_without_maps(self) -> int:
        """Count the planes whose maps were not kept, so that sliders do not act on them."""
        return sum(found.config is not None and found.maps is None for found in self._found.values())

    # What the user drops

    def toggle(self, plane: PlaneKey, pixel: Pixel) -> bool:
        """Drop the object at a pixel, or take it back in; return whether there is one."""
        proposal = self._proposals.get(plane)
        hit = [change for change in (proposal.changes if proposal else ()) if _has(change, pixel)]
        if not hit:
            return False
        pixels = self._dropped.setdefault(plane, set())
        inside = {one for one in pixels if _has(hit[-1], one)}
        self._dropped[plane] = pixels - inside if inside else pixels | {_centre(hit[-1])}
        return True

    def dropped(self, plane: PlaneKey) -> set[int]:
        """Return the positions in the proposal of a plane of the objects that were dropped."""
        pixels, proposal = self._dropped.get(plane, ()), self._proposals.get(plane)
        changes = proposal.changes if proposal and pixels else ()
        return {index for index, change in enumerate(changes) if any(_has(change, pixel) for pixel in pixels)}

    def count_dropped(self) -> int:
        """Count the objects of all planes that were dropped."""
        return sum(len(self.dropped(plane)) for plane in self._dropped)

    def kept(self, image: str) -> Proposal:
        """Return one proposal with the objects of an image that were not dropped."""
        changes: list[ProposedChange] = []
        adapter = ""
        for plane, proposal in self._proposals.items():
            if plane.image == image:
                dropped, adapter = self.dropped(plane), proposal.adapter
                changes += [change for index, change in enumerate(proposal.changes) if index not in dropped]
        return Proposal(tuple(changes), "everything", adapter)


def _centre(change: ProposedChange) -> Pixel:
    """Return the pixel of an object that is farthest from its outline: it stays inside when the object shrinks."""
    (y, x), (y0, x0) = click_at_centre(change.new.crop), change.new.origin
    return y + y0, x + x0


def _has(change: ProposedChange, pixel: Pixel) -> bool:
    y, x = pixel
    return bool(change.new.within((y, x, y + 1, x + 1)).any())
