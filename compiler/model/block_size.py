"""Work out the blocks in which an engine keeps a model's KV, and what a cache keeps of a token.

A hybrid model's blocks are as large as a state: vLLM raises the tokens of a block until its KV in
one layer fills as many bytes as one layer's state, and pads the state to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.document import Json
from compiler.model.cache_dtype import dtype_bytes
from compiler.model.kv_shape import KvShape
from compiler.model.layers import Keeps, KvLayers, Unknown
from compiler.model.states import DTYPE_BYTES
from compiler.stacks.stack import Platform
from compiler.topology import CacheMode

_ALIGNMENTS = (16, 8, 4, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """One worker's split of a model.

    default_block: the engine's, in tokens. latent_block: what a hybrid model's blocks are a
    multiple of where its attention is latent; 0: of nothing more.
    """

    shape: KvShape
    ranks: int
    engine_args: Mapping[str, Json]
    default_block: int
    latent_block: int = 0

    @property
    def block_tokens(self) -> int:
        """Return the tokens of one block of KV.

        Errors: Unknown where the size of a state or of the KV in a layer is not known.
        Source: vLLM 0.32.0 platforms/interface.py, _align_hybrid_block_size, the same in 0.23.0,
                0.25.1 and 0.31.0 for mamba_cache_mode align.
        """
        given = asked_block(self.engine_args) or self.default_block
        if not self.shape.states:
            return given
        multiple = max(given, self.latent_block if self._attention.is_latent else 0)
        unit = multiple * self._token_bytes
        return max(given, multiple * -(-self.state_bytes // unit))

    @property
    def state_bytes(self) -> int:
        """Return the bytes of one layer's state on one rank, before it is padded.

        Errors: Unknown.
        """
        if self.shape.state is None:
            return 0
        base = dtype_bytes(self.engine_args)
        conv = self._dtype("mamba_cache_dtype", base)
        own = self.shape.state.ssm_dtype
        asked = str(self.engine_args.get("mamba_ssm_cache_dtype", "auto"))
        ssm = DTYPE_BYTES.get(own if asked == "auto" else asked, conv)
        return self.shape.state.rank_bytes(self.ranks, self._drafts, conv, ssm)

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of one token that a cache keeps of one rank.

        A cache keeps windows whole, and a state for each block.
        Errors: Unknown.
        Source: lmcache 0.5.6 v1/multiprocess/config.py, separate_object_groups (off: a chunk is one
                object of all layers); integration/vllm/kv_cache_group_edits.py,
                _MambaUnifiedViewEdit.
        """
        value = self.shape.value_bytes(self.engine_args)
        tokens = sum(one.rank_bytes(self.ranks, value) for one in self.shape.layers)
        return tokens + self.shape.states * self._stored_state()

    def cached_bytes(self, mode: CacheMode) -> int:
        """Return what one cache keeps of one token.

        In process each rank keeps its own part in memory of its own; a server keeps the parts of
        all ranks, and a latent vector, which all ranks have alike, once.
        Errors: Unknown.
        Source: lmcache 0.5.6 integration/vllm/vllm_multi_process_adapter.py, kv_world_size.
        """
        once = mode is CacheMode.IN_PROCESS or (self.shape.is_latent and not self.shape.states)
        return self.stored_bytes if once else self.stored_bytes * self.ranks

    @property
    def _attention(self) -> KvLayers:
        full = (one for one in self.shape.layers if one.keeps is Keeps.ALL)
        return next(full, self.shape.layers[0])

    @property
    def _token_bytes(self) -> int:
        """Return the bytes of one token in one layer of attention."""
        one, value = self._attention, self.shape.value_bytes(self.engine_args)
        return one.rank_bytes(self.ranks, value) // one.count

    @property
    def _drafts(self) -> int:
        """Return the tokens that speculation guesses at once."""
        given = self.engine_args.get("speculative_config")
        if not given:
            return 0
        drafts = given.get("num_speculative_tokens") if isinstance(given, Mapping) else None
        if not isinstance(drafts, int) or drafts < 0:
            raise Unknown("how many tokens speculation guesses is not said")
        return drafts

    def _dtype(self, option: str, auto: int) -> int:
        return DTYPE_BYTES.get(str(self.engine_args.get(option, "auto")), auto)

    def _stored_state(self) -> int:
        """Return the bytes that each token of a block has of one layer's state."""
        if self.shape.state is None:
            return 0
        block = self.block_tokens
        least, page = -(-self.state_bytes // block), block * self._token_bytes
        sizes = (-(-least // unit) * unit for unit in _ALIGNMENTS)
        return next((size for size in sizes if size * block <= page), least)


def worker_shape(
    shape: KvShape, ranks: int, engine_args: Mapping[str, Json], platform: Platform
) -> WorkerShape:
    """Return what each of a worker's ranks has of a model, in a stack's form."""
    return WorkerShape(
        shape=shape,
        ranks=ranks,
        engine_args=engine_args,
        default_block=platform.block_size,
        latent_block=platform.latent_block,
    )


def asked_block(engine_args: Mapping[str, Json]) -> int | None:
    """Return the block size that a profile asks for."""
    given = engine_args.get("block_size")
    is_count = isinstance(given, int) and not isinstance(given, bool) and given > 0
    return given if is_count and isinstance(given, int) else None
