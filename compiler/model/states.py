"""Tell how large the state of a layer with Mamba or linear attention is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from compiler.document import Json
from compiler.model.config_json import text_part, whole
from compiler.model.layers import Unknown

DTYPE_BYTES = {
    "half": 2,
    "float16": 2,
    "bfloat16": 2,
    "float": 4,
    "float32": 4,
}
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateShape:
    """One layer's state: values of its convolution, and those of its recurrence.

    shapes: by ranks and drafts, what one tensor-parallel rank has; drafts are the tokens that
    speculation adds to the convolution's window. ssm_dtype: of the recurrence, where config.json
    says it; "auto" is that of the convolution. is_mamba: the kernels of Mamba 1 or 2 keep it.
    """

    shapes: Callable[[int, int], Shapes]
    ssm_dtype: str
    is_mamba: bool

    def rank_bytes(self, ranks: int, drafts: int, conv_bytes: int, ssm_bytes: int) -> int:
        """Return the bytes of one state on one rank.

        Source: vLLM 0.32.0 v1/kv_cache_interface.py, MambaSpec.page_size_bytes.
        """
        first, *others = (prod(shape) for shape in self.shapes(ranks, drafts))
        return first * conv_bytes + sum(others) * ssm_bytes


def state_shape(config: Mapping[str, Json]) -> StateShape:
    """Read the state of a model's layers.

    Errors: Unknown for a family whose states are not known here.
    Source: vLLM 0.32.0 model_executor/layers/mamba/mamba_utils.py, MambaStateShapeCalculator, and
            get_mamba_state_shape_from_config of each model.
    """
    text = text_part(config)
    for reader in (_delta_net, _kimi_delta, _nemotron, _mamba2, _jamba, _short_conv):
        found = reader(text)
        if found is not None:
            is_mamba = reader in (_nemotron, _mamba2, _jamba)
            return StateShape(shapes=found, ssm_dtype=_ssm_dtype(text), is_mamba=is_mamba)
    raise Unknown("how large its states are is not known")


def _delta_net(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read Gated DeltaNet: Qwen3-Next, Qwen3.5, OLMo Hybrid."""
    names = (
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    )
    sizes = _sizes(text, names)
    if sizes is None:
        return None
    keys, values, key_dim, value_dim, kernel = sizes

    def shapes(ranks: int, drafts: int) -> Shapes:
        channels = key_dim * keys * 2 + value_dim * values
        conv = (channels // ranks, kernel - 1 + drafts)
        return conv, (values // ranks, value_dim, key_dim)

    return shapes


def _kimi_delta(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read Kimi Delta Attention: Kimi-Linear, Kimi-K3."""
    linear = text.get("linear_attn_config")
    names = ("num_heads", "head_dim", "short_conv_kernel_size")
    sizes = _sizes(linear, names) if isinstance(linear, dict) else None
    if sizes is None:
        return None
    heads, dim, kernel = sizes

    def shapes(ranks: int, drafts: int) -> Shapes:
        conv = (3 * heads * dim // ranks, kernel - 1 + drafts)
        return conv, (heads // ranks, dim, dim)

    return shapes


def _nemotron(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read Mamba 2 as Nemotron-H names it."""
    names = ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel")
    sizes = _sizes(text, names)
    if sizes is None:
        return None
    heads, dim, groups, state, kernel = sizes
    return _mamba2_shapes(heads * dim, groups, heads, dim, state, kernel)


def _mamba2(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read Mamba 2 as Granite 4, Bamba and Falcon-H1 name it."""
    names = ("mamba_n_groups", "mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_d_conv")
    sizes = _sizes(text, names)
    expand, hidden = whole(text, "mamba_expand"), whole(text, "hidden_size")
    inner = whole(text, "mamba_d_ssm") or (expand * hidden if expand and hidden else None)
    if sizes is None or inner is None:
        return None
    groups, heads, dim, state, kernel = sizes
    return _mamba2_shapes(inner, groups, heads, dim, state, kernel)


def _mamba2_shapes(  # noqa: PLR0913, PLR0917 -- the sizes of mamba2_state_shape
    inner: int, groups: int, heads: int, dim: int, state: int, kernel: int
) -> Callable[[int, int], Shapes]:
    def shapes(ranks: int, drafts: int) -> Shapes:
        repeated = groups if groups % ranks == 0 else ranks
        channels = inner + 2 * repeated * state
        return (channels // ranks, kernel - 1 + drafts), (heads // ranks, dim, state)

    return shapes


def _jamba(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read Mamba 1 as Jamba names it; drafts do not widen it."""
    names = ("mamba_expand", "hidden_size", "mamba_d_state", "mamba_d_conv")
    sizes = _sizes(text, names) if text.get("model_type") == "jamba" else None
    if sizes is None:
        return None
    expand, hidden, state, kernel = sizes
    inner = expand * hidden
    return lambda ranks, drafts: (  # noqa: ARG005
        (inner // ranks, kernel - 1),
        (inner // ranks, state),
    )


def _short_conv(text: Mapping[str, Json]) -> Callable[[int, int], Shapes] | None:
    """Read the short convolution of LFM2; drafts do not widen it."""
    kernel = whole(text, "conv_L_cache")
    channels = whole(text, "conv_dim", "hidden_size")
    if text.get("model_type") == "lfm2_moe":
        channels = whole(text, "hidden_size")
    if kernel is None or channels is None:
        return None
    return lambda ranks, drafts: ((channels // ranks, kernel - 1),)  # noqa: ARG005


def _ssm_dtype(text: Mapping[str, Json]) -> str:
    """Return the recurrence's own dtype, as vLLM takes it for its option's default.

    Source: vLLM 0.32.0 model_executor/models/config.py, NemotronHForCausalLMConfig and
            Qwen3_5ForConditionalGenerationConfig; mamba_utils.py, kda_state_dtype.
    """
    kind = str(text.get("model_type"))
    if kind.startswith("nemotron_h"):
        return str(text.get("mamba_ssm_cache_dtype", "float32"))
    if kind.startswith("qwen3_5"):
        return str(text.get("mamba_ssm_dtype", "auto"))
    return "float32" if isinstance(text.get("linear_attn_config"), dict) else "auto"


def _sizes(text: Mapping[str, Json], names: tuple[str, ...]) -> list[int] | None:
    found = [size for name in names if (size := whole(text, name)) is not None]
    return found if len(found) == len(names) else None
