"""Which functions of `templates/math.h.j2` there are, which others each one calls, and which file has it."""

from collections.abc import Iterable

__all__ = ["DEPENDS", "closure", "files"]

# In the order in which the template defines them: a function stands after what it calls.
DEPENDS: dict[str, tuple[str, ...]] = {
    "gx_bitsf": (),  # brings gx_from_bitsf with it
    "gx_bits": (),
    "gx_exp_belowf": ("gx_bitsf",),
    "gx_exp_below": ("gx_bits",),
    "gx_expf": ("gx_bitsf",),
    "gx_exp": ("gx_bits",),
    "gx_exp2f": ("gx_bitsf",),
    "gx_exp2": ("gx_bits",),
    "gx_expm1f": ("gx_bitsf",),
    "gx_expm1": ("gx_bits",),
    "gx_sigmoidf": ("gx_exp_belowf",),
    "gx_sigmoid": ("gx_exp_below",),
    "gx_tanhf": ("gx_exp_belowf",),
    "gx_tanh": ("gx_exp_below",),
    "gx_log_sumf": (),
    "gx_log_sum": (),
    "gx_logf": ("gx_bitsf", "gx_log_sumf"),
    "gx_log": ("gx_bits", "gx_log_sum"),
    "gx_log2f": ("gx_bitsf",),
    "gx_log2": ("gx_bits",),
    "gx_log10f": ("gx_bitsf",),
    "gx_log10": ("gx_bits",),
    "gx_log1pf": ("gx_bitsf", "gx_log_sumf"),
    "gx_log1p": ("gx_bits", "gx_log_sum"),
    "gx_log1p_unitf": (),
    "gx_log1p_unit": (),
    "gx_logaddexpf": ("gx_bitsf", "gx_exp_belowf", "gx_log1p_unitf"),
    "gx_logaddexp": ("gx_bits", "gx_exp_below", "gx_log1p_unit"),
    "gx_softplusf": ("gx_exp_belowf", "gx_log1p_unitf"),
    "gx_softplus": ("gx_exp_below", "gx_log1p_unit"),
    "gx_log2_abs": ("gx_bits",),
    "gx_exp2_narrow": ("gx_bits",),
    "gx_powf": ("gx_log2_abs", "gx_exp2_narrow"),
    "gx_pow": (),
    "gx_erff": ("gx_expf",),
    "gx_erf": ("gx_exp",),
    "gx_erfcf": ("gx_exp2_narrow",),
    "gx_erfc": ("gx_bits",),
    "gx_sin_nearf": ("gx_bits",),
    "gx_sin_near": ("gx_bits",),
    "gx_sinf": ("gx_sin_nearf",),
    "gx_sin": ("gx_sin_near",),
    "gx_cosf": ("gx_sin_nearf",),
    "gx_cos": ("gx_sin_near",),
    "gx_tanf": ("gx_bits",),
    "gx_tan": ("gx_bits",),
    "gx_cos_turnsf": (),
    "gx_cos_turns": (),
    "gx_asinf": (),
    "gx_acosf": (),
    "gx_arcf": (),
    "gx_atanf": ("gx_arcf",),
    "gx_atan2f": ("gx_arcf",),
    "gx_asin": (),
    "gx_acos": (),
    "gx_arc": (),
    "gx_atan": ("gx_arc",),
    "gx_atan2": ("gx_arc",),
    "gx_hypotf": (),
    "gx_hypot": (),
    "gx_half_expf": ("gx_bitsf",),
    "gx_sinhf": ("gx_half_expf",),
    "gx_coshf": ("gx_half_expf",),
    "gx_asinhf": ("gx_bitsf", "gx_log_sumf"),
    "gx_acoshf": ("gx_bitsf", "gx_log_sumf"),
    "gx_atanhf": ("gx_bitsf", "gx_log_sumf"),
    "gx_half_exp": ("gx_bits",),
    "gx_sinh": ("gx_half_exp",),
    "gx_cosh": ("gx_half_exp",),
    "gx_asinh": ("gx_bits", "gx_log_sum"),
    "gx_acosh": ("gx_bits", "gx_log_sum"),
    "gx_atanh": ("gx_bits", "gx_log_sum"),
    "gx_cbrtf": ("gx_bitsf",),
    "gx_cbrt": ("gx_bits",),
    "gx_sin_pi": (),
    "gx_log_twice": ("gx_bits",),
    "gx_lgamma": ("gx_log", "gx_sin_pi", "gx_log_twice"),
    "gx_lgammaf": ("gx_lgamma",),
    "gx_digamma": ("gx_log", "gx_sin_pi"),
    "gx_digammaf": ("gx_digamma",),
    "gx_polygamma": (),
    "gx_polygammaf": ("gx_polygamma",),
}

# The files of `templates/math/` in order, each with the last of its functions.
_LAST = {
    "bits": "gx_bits", "exp": "gx_tanh", "log": "gx_softplus", "pow": "gx_pow", "erf": "gx_erfc", "trig": "gx_cos_turns",
    "arc": "gx_hypot", "hyperbolic": "gx_atanh", "cbrt": "gx_cbrt", "gamma": "gx_polygammaf",
}  # fmt: skip


def closure(names: Iterable[str]) -> list[str]:
    """The named functions and everything they call, callees first.

    Raises KeyError for a name that the template does not define.

    >>> closure(["gx_sigmoidf"])
    ['gx_bitsf', 'gx_exp_belowf', 'gx_sigmoidf']
    """
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(DEPENDS[name])
    return [name for name in DEPENDS if name in needed]


def files(names: Iterable[str]) -> list[str]:
    """The files that have the named functions: a program leaves the others unread.

    >>> files(["gx_sigmoidf", "gx_bitsf"])
    ['bits', 'exp']
    """
    order, needed, start, found = list(DEPENDS), set(names), 0, []
    for file, last in _LAST.items():
        end = order.index(last) + 1
        if needed.intersection(order[start:end]):
            found.append(file)
        start = end
    return found
