"""Names, constants and scalar expressions in the spelling of C."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from graphc.ir import REGISTRY
from graphc.lower.equations import axis_name
from graphc.lower.index import Divide, Index, Modulo, Pick, Var, flatten
from graphc.ops.pointwise import Pointwise
from graphc.schedule import tiling
from graphc.schedule.kernels import Let, Scalar
from graphc.types import BOOL, FLOAT32, INT64, DType, ShapeError, TensorType

__all__ = [
    "CNames", "ScalarSpeller", "Speller", "batch_name", "comment", "comments", "counted",
    "enclosed", "function_name", "identifier", "literal", "local_ctype", "spread",
]  # fmt: skip

# An int reaches this far, and a block further.
LARGEST = 2**31 - 2**16


# --- names ------------------------------------------------------------------------------------------
# What neither C nor C++ (the header serves both), nor their headers and predefined macros, leave free.
_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
_Bool _Complex _Imaginary bool true false asm main NULL NAN INFINITY HUGE_VAL HUGE_VALF HUGE_VALL
nullptr constexpr static_assert typeof alignas alignof thread_local signbit isnan isinf isfinite errno
and and_eq bitand bitor catch class compl concept consteval constinit const_cast co_await co_return co_yield decltype
delete dynamic_cast explicit export friend mutable namespace new noexcept not not_eq operator or or_eq private protected
public reinterpret_cast requires static_cast template this throw try typeid typename using virtual xor xor_eq
linux unix i386 float_t double_t wchar_t char8_t char16_t char32_t""".split()
# What the templates declare or call.
_OURS = """args now arena threads strides steps done status lane workspace sqrt sqrtf fabs fabsf memcpy memset first last
parts part ok
floor floorf ceil ceilf trunc truncf rint rintf fmod fmodf copysign copysignf""".split()
# The functions of the C library: good names for variables, but not for a function.
_LIBRARY = (
    [
        name + suffix
        for suffix in ("", "f", "l")
        for name in """acos acosh asin asinh atan atan2 atanh cabs cacos
cacosh carg casin casinh catan catanh cbrt ccos ccosh ceil cexp cimag clog conj copysign cos cosh cpow cproj creal csin
csinh csqrt ctan ctanh erf erfc exp exp2 expm1 fabs fdim floor fma fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint
llround log log10 log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow remainder remquo rint round
scalbln scalbn sin sinh sqrt tan tanh tgamma trunc""".split()
    ]
    + """fpclassify isgreater isgreaterequal isless islessequal
islessgreater isnormal isunordered abort abs atexit atof atoi atol atoll bsearch calloc div exit free getenv labs ldiv
llabs lldiv malloc mblen mbstowcs mbtowc qsort rand realloc srand strtod strtof strtol strtold strtoll strtoul strtoull
system wcstombs wctomb memchr memcmp memcpy memmove memset strcat strchr strcmp strcoll strcpy strcspn strerror strlen
strncat strncmp strncpy strpbrk strrchr strspn strstr strtok strxfrm clearerr fclose feof ferror fflush fgetc fgetpos
fgets fopen fprintf fputc fputs fread freopen fscanf fseek fsetpos ftell fwrite getc getchar gets perror printf putc
putchar puts remove rename rewind scanf setbuf setvbuf snprintf sprintf sscanf tmpfile tmpnam ungetc vfprintf vfscanf
vprintf vscanf vsnprintf vsprintf vsscanf isalnum isalpha isblank iscntrl isdigit isgraph islower isprint ispunct isspace
isupper isxdigit tolower toupper asctime clock ctime difftime gmtime localtime mktime strftime time raise signal longjmp
setjmp imaxabs imaxdiv strtoimax strtoumax""".split()
)


def batch_name(axis: int) -> str:
    """The loop variable of a batch axis of a contraction."""
    return f"batch_{axis}"


_RESERVED = frozenset(
    (*_KEYWORDS, *_OURS, *tiling.LOCAL_NAMES, *map(axis_name, range(40)), *(batch_name(n) for n in range(10)))
)
_RESERVED_FORMS = re.compile(
    r"gx_|GX_|__|_[A-Z]|(U?INT|SIZE|PTRDIFF|FLT|DBL|FP|MATH|M)\w*_|(u?int\w*|size|ptrdiff|max_align)_t$"
)


class CNames:
    """A C identifier for each name: the name itself where it is one, else the nearest that is free.

    ``within`` are the names of the scope around this one, whose identifiers are not given again.
    """

    def __init__(self, taken: Iterable[str] = (), within: CNames | None = None) -> None:
        self.taken, self.within = frozenset(taken), within
        self.known: MutableMapping[str, str] = {}
        self.given: set[str] = set()

    def __getitem__(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = self.fresh(name)
        return self.known[name]

    def fresh(self, name: str) -> str:
        """An identifier like ``name`` that is not taken, and is from now on."""
        stem = identifier(name)
        found, number = stem, 1
        while found in _RESERVED or found in self.taken or self.gave(found):
            found, number = f"{stem}_{number}" if number > 1 else f"{stem}_", number + 1
        self.given.add(found)
        return found

    def gave(self, identifier: str) -> bool:
        """Whether a name here or around has this identifier."""
        return identifier in self.given or (self.within is not None and self.within.gave(identifier))


def function_name(name: str) -> str:
    """What the function of this name is called in C."""
    return CNames(_LIBRARY)[name]


def identifier(name: str) -> str:
    """The C identifier most like ``name``."""
    stem = re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"
    return "v_" + stem if stem[0].isdigit() or _RESERVED_FORMS.match(stem) else stem


# --- expressions --------------------------------------------------------------------------------------
def literal(value: Any, dtype: DType) -> str:
    """A C constant of exactly this value."""
    if dtype.is_float:
        rounded = dtype.numpy.type(value)
        suffix = "f" if dtype is FLOAT32 else ""
        if np.isnan(rounded):
            return "NAN"
        if np.isinf(rounded):
            return "INFINITY" if rounded > 0 else "(-INFINITY)"
        text = (
            np.format_float_scientific(rounded, trim="0")
            if 0 < abs(rounded) < 1e-4 or abs(rounded) >= 1e7
            else str(rounded)
        )
        text = text if "." in text or "e" in text else text + ".0"
        return f"({text}{suffix})" if text.startswith("-") else text + suffix
    number = int(value)
    if dtype is INT64:
        return f"(INT64_C({number + 1}) - 1)" if number == -(2**63) else f"INT64_C({number})"
    if number == -(2**31):
        return "(-2147483647 - 1)"
    return f"({number})" if number < 0 else str(number)


def comment(text: str) -> list[str]:
    """The lines of a C comment that says this, whatever names are in it."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text).replace("*/", "* /").replace("/*", "/ *")
    return textwrap.wrap(plain, 112, subsequent_indent="    ", break_long_words=False) or [""]


def spread(opening: str, items: Sequence[str], margin: int = 0) -> str:
    """What stands between the parentheses after ``opening``: on lines of its own where it is long."""
    line = ", ".join(items)
    if margin + len(opening) + len(line) <= 110:
        return line
    space = " " * (margin + 4)
    lines = textwrap.wrap(
        ", ".join(item.replace(" ", "\0") for item in items), 112 - len(space), break_long_words=False
    )
    return "".join(f"\n{space}{line}" for line in lines).replace("\0", " ")


def comments(texts: Iterable[str]) -> list[str]:
    """The lines of a C comment of several sentences."""
    return [line for text in texts for line in comment(text)]


def enclosed(text: str) -> str:
    """The text as an operand: in parentheses unless it is a name, a number, an element or a call."""
    return text if _is_atom(text) else f"({text})"


def _is_atom(text: str) -> bool:
    if re.fullmatch(r"[A-Za-z_]\w*|[\d.]+(e[+-]?\d+)?f?", text):
        return True
    opening = re.match(r"([A-Za-z_]\w*)?[\[(]", text)
    if not opening:
        return False
    level = 0
    for place, sign in enumerate(text):
        level += (sign in "([") - (sign in ")]")
        if level == 0 and place >= opening.end() - 1:
            return place == len(text) - 1
    return False


def counted(number: int, what: str) -> None:
    """Raises :class:`ShapeError` for more than an int of C counts."""
    if number > LARGEST:
        raise ShapeError(f"{what.format(number)} is too large: indices are 32 bits wide, at most {LARGEST:,}")


class Speller:
    """C text of indices and scalars, given names for axes and tensors."""

    def __init__(self, names: CNames, axes: Mapping[int, str] | None = None) -> None:
        self.names, self.axes = names, axes

    def axis(self, axis: int) -> str:
        return axis_name(axis) if self.axes is None else self.axes[axis]

    def index(self, index: Index) -> str:
        counted(max(map(abs, index.bounds)), "an index up to {:,}")
        parts: list[str] = []
        for atom, factor in index.terms:
            text = self.atom(atom)
            text = f"{enclosed(text)} * {abs(factor)}" if abs(factor) != 1 else text
            parts.append((" - " if factor < 0 else " + ") + text)
        if index.constant or not parts:
            parts.append((" - " if index.constant < 0 else " + ") + str(abs(index.constant)))
        text = "".join(parts)
        return text[3:] if text.startswith(" + ") else "-" + text[3:]

    def atom(self, atom: Any) -> str:
        if isinstance(atom, Var):
            return self.axis(atom.axis)
        if isinstance(atom, Pick):
            raise AssertionError("picks are spelled with the shape of their tensor")
        assert isinstance(atom, Divide | Modulo)
        return f"{enclosed(self.index(atom.index))} {'/' if isinstance(atom, Divide) else '%'} {atom.by}"


class ScalarSpeller(Speller):
    """Speller that also knows the shapes of tensors, so that it can spell loads and picks."""

    def __init__(
        self,
        names: CNames,
        shapes: Mapping[str, TensorType],
        axes: Mapping[int, str] | None = None,
        by_value: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(names, axes)
        self.shapes, self.by_value = shapes, by_value
        self.handed: dict[str, str] = {}  # values with a place for each round of a strip
        self.rows: dict[str, str] = {}  # buffers of a strip: where the row of this round begins
        self.locals = CNames(within=names)

    def atom(self, atom: Any) -> str:
        if isinstance(atom, Pick):
            type = self.shapes[atom.tensor]
            element = self.element(atom.tensor, flatten(atom.index, type.shape))
            return f"gx_from_end_{type.dtype}({element}, {atom.extent})" if atom.wrap else element
        return super().atom(atom)

    def value(self, scalar: Scalar) -> str:
        """A scalar where it is used: its name if it has one, else the expression."""
        return self.local(scalar.name) if scalar.name else self.expression(scalar)

    def local(self, name: str) -> str:
        """A named value of the kernel."""
        return self.handed.get(name) or self.locals[name]

    def expression(self, scalar: Scalar) -> str:
        """The C expression that computes a scalar."""
        if scalar.op == "literal":
            return literal(scalar.value, scalar.dtype)
        if scalar.op == "index":
            return self.index(scalar.index)
        if scalar.op == "load":
            return self.element(scalar.tensor, scalar.index)
        args = [self.value(arg) for arg in scalar.args]
        if scalar.op == "guard":
            return f"{' && '.join(self.conditions(scalar))} ? {enclosed(args[0])} : 0"
        if scalar.op == "cast":
            return f"({scalar.dtype.ctype}){enclosed(args[0])}"
        op = REGISTRY[scalar.op]
        assert isinstance(op, Pointwise)
        dtype = scalar.args[-1].dtype
        text = op.c if dtype.is_float or dtype is BOOL else op.c_int
        call = re.match(r"\w+(\{[fd]\})?\(", text)
        unsigned = "uint64_t" if dtype is INT64 else "uint32_t"
        return text.format(
            *(args if call else map(enclosed, args)), f="f" if dtype is FLOAT32 else "", d=dtype, t=dtype.ctype, u=unsigned
        )

    def element(self, tensor: str, index: Index) -> str:
        """One element of an array; a scalar that is passed by value is its name."""
        if tensor in self.by_value:
            return self.names[tensor]
        return f"{self.names[tensor]}[{self.rows.get(tensor, '')}{self.index(index)}]"

    def let(self, let: Let) -> str:
        """The declaration of a named value."""
        declared = "" if let.name in self.handed else f"const {local_ctype(let.scalar.dtype)} "
        return f"{declared}{self.local(let.name)} = {self.expression(let.scalar)};"

    def conditions(self, scalar: Scalar) -> list[str]:
        found = []
        for guard in scalar.guards:
            low, high = guard.index.bounds
            text = self.index(guard.index)
            if low < guard.low == guard.high - 1 < high:
                found.append(f"{text} == {guard.low}")
            else:
                found += [f"{text} >= {guard.low}"] if low < guard.low else []
                found += [f"{text} < {guard.high}"] if high >= guard.high else []
            if guard.step != 1:
                found.append(f"{enclosed(text)} % {guard.step} == 0")
        return found or ["1"]


def local_ctype(dtype: DType) -> str:
    """The C type of a local value; truth values are ints there."""
    return "int" if dtype is BOOL else dtype.ctype
