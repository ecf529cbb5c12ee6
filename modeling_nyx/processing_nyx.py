"""Turn content into what the model takes: padded rows, or one packed row without padding.

Serialisation: instruction, then the content in order, a picture being
`<|vision_start|><|image_pad|>×n<|vision_end|>`, then `<|im_end|>` if `append_eos`; no role markers.
"""

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BatchFeature
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.processing_utils import ProcessorMixin

from .content_nyx import neutralize, to_content
from .folder_nyx import write_json
from .images_nyx import BadImage, image_key, image_size, load_image
from .rows_nyx import Row, positions, shorten

logger = logging.getLogger(__name__)

Role = Literal["query", "document"]

IMAGE_PAD = "<|image_pad|>"
NEEDED = {IMAGE_PAD, "<|vision_start|>", "<|vision_end|>", "<|im_end|>"}
BYTES = 256  # what a byte-level vocabulary has at least
UNLIMITED = 32768
MAX_PIXELS = 400 * 28 * 28
MIN_PIXELS = 4 * 28 * 28


class NyxProcessor(ProcessorMixin):
    """Image processor and tokenizer of Qwen2.5-VL, without video and without torchvision.

    `append_eos`, `query_instruction` and `document_instruction` are part of the checkpoint. So is the pixel cap,
    which lies in the image processor's `size`. What is saved names the backbone's own processor, for engines that
    load it without this code.
    """

    stock_class = "Qwen2_5_VLProcessor"
    stock_video_class = "Qwen2VLVideoProcessor"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        append_eos: bool = False,
        query_instruction: str = "",
        document_instruction: str = "",
        chat_template: str | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.append_eos = append_eos
        self.query_instruction = query_instruction
        self.document_instruction = document_instruction
        added = tokenizer.get_added_vocab()
        # Without its files transformers makes a tokenizer that knows no text, and says nothing.
        if NEEDED - added.keys() or len(tokenizer) - len(added) < BYTES:
            raise ValueError(
                f"The tokenizer of {tokenizer.name_or_path!r} has {len(tokenizer)} tokens, {sorted(added)} added. "
                f"Expected Qwen-VL's, with {sorted(NEEDED)}. Are all of its files there, tokenizer.json too?"
            )
        self.image_token = IMAGE_PAD
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.end_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
        # All of the tokenizer's own marks; anything that looks like one in users' text is text.
        self.special_tokens = sorted(token for token in tokenizer.get_added_vocab() if token.startswith("<|"))
        # The tokenizer holds the window, because that is where other engines look for it.
        tokenizer.model_max_length = min(tokenizer.model_max_length, UNLIMITED)

    @classmethod
    def _get_arguments_from_pretrained(cls, name: Any, processor_dict: dict | None = None, **kwargs: Any) -> list[Any]:
        """Load both parts by their classes: the automatic ones would ask for torchvision and a video processor.

        A folder without our fields is a backbone or one of the paper's checkpoints: it gets the paper's pixel cap.
        """
        images = Qwen2VLImageProcessorPil.from_pretrained(name, **kwargs)
        if "append_eos" not in (processor_dict or {}):
            images.size = SizeDict(shortest_edge=MIN_PIXELS, longest_edge=MAX_PIXELS)
        return [images, AutoTokenizer.from_pretrained(name, **kwargs)]

    @property
    def max_tokens(self) -> int:
        """The window: as many tokens as one content may have."""
        return self.tokenizer.model_max_length

    def __call__(
        self,
        contents: Any = None,
        role: Role = "document",
        padding_side: Literal["left", "right"] | None = None,
        *,
        text: Any = None,
        images: Any = None,
        videos: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Make a padded batch of content lists, or, with `text`, of rendered strings and their pictures in order.

        Strings are cut to the window, or to `max_length`, if `truncation` is asked for, as contents always are.
        Shapes: `input_ids`, `attention_mask`, `mm_token_type_ids` (batch, length), `pixel_values` (patches, 1176) and
        `image_grid_thw` (pictures, 3) of all pictures in order of appearance.
        """
        if text is None:
            return self.pad(self.rows(contents, role), padding_side or self.tokenizer.padding_side)
        if kwargs.get("images_kwargs"):
            raise ValueError(f"Picture settings came ({kwargs['images_kwargs']}), but they are the checkpoint's own.")
        options = kwargs | (kwargs.get("common_kwargs") or {}) | (kwargs.get("text_kwargs") or {})
        rows = self.rendered_rows(text, images, videos)
        if options.get("truncation"):
            rows = [self._shortened(row, options.get("max_length") or self.max_tokens) for row in rows]
        return self.pad(rows, options.get("padding_side") or padding_side or self.tokenizer.padding_side)

    def pack(self, contents: Sequence[Any], role: Role = "document") -> BatchFeature:
        """Make one row without padding of several contents.

        Shapes: `input_ids`, `mm_token_type_ids` (1, T), `position_ids` (4, 1, T): text positions, then M-RoPE's three,
        each starting anew per content; `cu_seqlens` (contents + 1); `pixel_values` and `image_grid_thw` of the
        *different* pictures, and `image_index` (occurrences): which of them each one is.
        """
        return self.pack_rows(self.rows(contents, role))

    def rows(
        self, contents: Iterable[Any], role: Role = "document", errors: dict[int, ValueError] | None = None
    ) -> list[Row]:
        """Tokenize contents; pictures are not decoded. Raises `ValueError` naming the first item that is bad.

        Given `errors`, bad items are put there by index instead, and an empty row into their place.
        """
        if role not in ("query", "document"):
            raise ValueError(f"role is {role!r}; expected 'query' or 'document'.")
        if isinstance(contents, (str, bytes, Mapping, Image.Image, PathLike)) or not isinstance(contents, Iterable):
            raise ValueError(f"Expected a list of contents, not one {type(contents).__name__}. Put it into a list.")
        rows = []
        for index, content in enumerate(contents):
            try:
                rows.append(self._row(to_content(content), role))
            except ValueError as error:
                if errors is None:
                    raise type(error)(f"Item {index}: {error}") from error
                errors[index] = error
                rows.append(Row([], [], [], []))
        return rows

    def pack_rows(self, rows: Sequence[Row], known: Collection[str] = ()) -> BatchFeature:
        """Make one row of several that `rows` made, see `pack`; only here are their pictures decoded.

        Pictures whose keys are `known` are not: `image_index` counts these after those that are.
        """
        ids = np.concatenate([row.ids for row in rows]).astype(np.int64)
        batch = {
            "input_ids": torch.from_numpy(ids)[None],
            "mm_token_type_ids": torch.from_numpy((ids == self.image_token_id).astype(np.int32))[None],
            "position_ids": torch.from_numpy(np.concatenate([positions(row) for row in rows], axis=1))[:, None],
            "cu_seqlens": torch.tensor(np.cumsum([0, *(len(row.ids) for row in rows)]), dtype=torch.int32),
        }
        keys = [key for row in rows for key in row.keys]
        pictures = [(image, grid) for row in rows for image, grid in zip(row.images, row.grids, strict=True)]
        fresh = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in known}
        place = {key: number for number, key in enumerate([*fresh, *known])}
        if fresh:
            batch |= self.pixels(list(fresh.values()))
        if keys:
            batch["image_index"] = torch.tensor([place[key] for key in keys])
        return BatchFeature(batch)

    def _row(self, content: list[dict[str, Any]], role: Role) -> Row:
        """Tokenize one content; what is beyond the window is dropped from its end, a picture always whole."""
        instruction = self.query_instruction if role == "query" else self.document_instruction
        row = Row([], [], [], [])
        for item in to_content([instruction, *content]):
            if item["type"] == "text":
                row.ids += self._text_ids(neutralize(item["text"], self.special_tokens))
            else:
                row.images.append(item["image"])
                row.grids.append(self._grid(item["image"]))
                row.keys.append(image_key(item["image"]))
                row.starts.append(len(row.ids) + 1)
                row.ids += self._picture_ids(row.grids[-1])
        if self.append_eos:
            row.ids.append(self.end_token_id)
        short = self._shortened(row, self.max_tokens)
        if short is not row and len(short.ids) - self.append_eos <= len(self._text_ids(instruction)):
            raise ValueError(
                f"A content of {len(row.ids)} tokens came, nothing of which fits the window of {self.max_tokens}. "
                "Make its first picture smaller, or the window larger."
            )
        return short

    def _text_ids(self, text: str) -> list[int]:
        try:
            return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
        except (TypeError, UnicodeError) as error:
            raise ValueError(f"A text that is no Unicode came: {text!r:.100} ({error}).") from error

    def _shortened(self, row: Row, limit: int) -> Row:
        """Cut a row to so many tokens, and say so."""
        short = shorten(row, limit, self.end_token_id, self.image_processor.merge_size)
        if short is not row:
            dropped = len(row.ids) - len(short.ids)
            logger.warning("Content longer than the window of %d tokens: its last %d dropped.", limit, dropped)
        return short

    def _grid(self, image: Any) -> tuple[int, int]:
        """Return a picture's (height, width) in patches, from its header."""
        width, height = image_size(image)
        size, patch = self.image_processor.size, self.image_processor.patch_size
        factor = patch * self.image_processor.merge_size
        low, high = size["shortest_edge"], size["longest_edge"]
        height, width = smart_resize(height, width, factor, min_pixels=low, max_pixels=high)
        return height // patch, width // patch

    def _picture_ids(self, grid: tuple[int, int]) -> list[int]:
        start, end = self.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
        return [start, *[self.image_token_id] * (grid[0] * grid[1] // self.image_processor.merge_size**2), end]

    def pixels(self, pictures: list[tuple[Any, tuple[int, int]]]) -> dict[str, torch.Tensor]:
        """Decode, resize and cut pictures (source, grid), one after another: decoded ones may be large.

        Raises `BadImage` for one that is broken behind its header.
        """
        patches = []
        for source, grid in pictures:
            output = self.image_processor([load_image(source)], return_tensors="pt")
            found = tuple(output["image_grid_thw"][0].tolist()[1:])
            if found != grid:
                raise BadImage(f"A picture changed while it was read: its header said {grid}, its pixels {found}.")
            patches.append(output["pixel_values"])
        grids = [(1, *grid) for _, grid in pictures]
        return {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}

    def pad(self, rows: list[Row], side: str) -> BatchFeature:
        """Make a batch of rows, see `__call__`; only here are their pictures decoded."""
        if side not in ("left", "right"):
            raise ValueError(f"padding_side is {side!r}; expected 'left' or 'right'.")
        length = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), length), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            place = slice(0, len(row.ids)) if side == "right" else slice(length - len(row.ids), length)
            ids[index, place], mask[index, place] = row.ids, 1
        types = ((ids == self.image_token_id) & (mask == 1)).astype(np.int32)
        batch = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": types}
        tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
        pictures = [(image, grid) for row in rows for image, grid in zip(row.images, row.grids, strict=True)]
        return BatchFeature(tensors | (self.pixels(pictures) if pictures else {}))

    def rendered_rows(self, text: Any, images: Any, videos: Any = None) -> list[Row]:
        """Tokenize strings that a chat template rendered, in which special tokens are what they say.

        `images`: all pictures in order, in a list or in lists of lists. Raises `ValueError` if they differ in number
        from the strings' `<|image_pad|>` marks.
        """
        if videos is not None:
            raise ValueError("Videos came, but only text and pictures are supported. Leave videos out.")
        texts = [text] if isinstance(text, str) else list(text)
        given = _flatten(images)
        wanted = sum(each.count(IMAGE_PAD) for each in texts)
        if wanted != len(given):
            raise ValueError(f"The text has {wanted} {IMAGE_PAD} marks but came with {len(given)} pictures.")
        rows, left = [], iter(given)
        for each in texts:
            row = Row([], [], [], [])
            for number, part in enumerate(each.split(IMAGE_PAD)):
                if number:
                    row.images.append(next(left))
                    row.grids.append(self._grid(row.images[-1]))
                    row.starts.append(len(row.ids))
                    row.ids += self._picture_ids(row.grids[-1])[1:-1]
                row.ids += self._text_ids(part)
            rows.append(row)
        return rows

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """Render one conversation or a list of them; every message's content may have any spelling of content.

        sentence-transformers wraps messages that come in one batch with other inputs into a message of their own,
        which a template cannot see through and its count of pictures misses: they are unwrapped where they lie.
        """
        many = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations = conversation if many else [conversation]
        for message in (message for each in conversations for message in each):
            parts = message["content"]
            if isinstance(parts, list) and any(isinstance(part, Mapping) and "message" in part for part in parts):
                message["content"] = to_content(parts)
        plain = [[message | {"content": to_content(message["content"])} for message in each] for each in conversations]
        return super().apply_chat_template(plain if many else plain[0], *args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Describe the processor, as what it is for loaders without remote code."""
        stock = {
            "processor_class": self.stock_class,
            "video_processor": {"video_processor_type": self.stock_video_class},
        }
        return super().to_dict() | stock

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Save both parts, the tokenizer too under the stock processor's name."""
        files = super().save_pretrained(save_directory, *args, **kwargs)
        path = Path(save_directory) / "tokenizer_config.json"
        write_json(path, json.loads(path.read_text()) | {"processor_class": self.stock_class})
        return files


class NyxQwen3VLProcessor(NyxProcessor):
    """The same for Qwen3-VL."""

    stock_class = "Qwen3VLProcessor"
    stock_video_class = "Qwen3VLVideoProcessor"


def _flatten(images: Any) -> list[Any]:
    if images is None:
        return []
    if isinstance(images, (list, tuple)):
        return [image for part in images for image in _flatten(part)]
    return [images]


NyxProcessor.register_for_auto_class("AutoProcessor")
NyxQwen3VLProcessor.register_for_auto_class("AutoProcessor")
