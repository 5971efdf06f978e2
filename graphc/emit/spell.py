"""Names, constants and scalar expressions in the spelling of C."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from graphc.ir import REGISTRY
from graphc.lower.equations import axis_name
from graphc.lower.index import Divide, Index, Modulo, Pick, Var, flatten
from graphc.ops.pointwise import Pointwise
from graphc.schedule.kernels import Let, Scalar
from graphc.types import BOOL, FLOAT32, FLOAT64, INT64, DType, ShapeError, TensorType

__all__ = [
    "VECTOR_PREFIX", "CNames", "ScalarSpeller", "Speller", "batch_name", "comment", "comments", "counted",
    "enclosed", "function_name", "identifier", "literal", "local_ctype", "spread",
]  # fmt: skip

VECTOR_PREFIX = {FLOAT32: "gx_f32", FLOAT64: "gx_f64"}
"""With what the names of vector types and their functions begin."""

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
# What templates/contract.c.j2 declares, beside what it is given.
_OF_CONTRACTIONS = """i j k i0 j0 k0 e i_block j_block k_block i_end j_first j_end j_last k_last first end item part parts
space mine panel packed_a rows_of_a block sums tile turned top r row rows columns depth reached ready""".split()
# What the headers of the C library declare to a program that asks for no standard, POSIX included: good names for variables,
# but not for a function. Those of <math.h> come in three precisions.
_LIBRARY = frozenset(
    [
        name + suffix
        for suffix in ("", "f", "l")
        for name in """
acos acosh asin asinh atan atan2 atanh cabs cacos cacosh carg casin casinh catan catanh cbrt ccos ccosh ceil cexp cimag
clog conj copysign cos cosh cpow cproj creal csin csinh csqrt ctan ctanh drem erf erfc exp exp2 expm1 fabs fdim finite
floor fma fmax fmin fmod frexp gamma hypot ilogb j1 jn ldexp lgamma llrint llround log log10 log1p log2 logb lrint
lround modf nan nearbyint nextafter nexttoward pow remainder remquo rint round scalb scalbln scalbn significand sin sinh
sqrt tan tanh tgamma trunc y0 y1 yn
""".split()
    ]
    + """
_exit a64l abort abs access acct alarm aligned_alloc arc4random arc4random_buf arc4random_uniform asctime asctime_r
at_quick_exit atexit atof atoi atol atoll bcmp bcopy be16toh be32toh be64toh BIG_ENDIAN blkcnt_t blksize_t brk bsearch
BUFSIZ BYTE_ORDER bzero caddr_t calloc chdir chown chroot clearenv clearerr clearerr_unlocked clock CLOCK_BOOTTIME
CLOCK_BOOTTIME_ALARM clock_getcpuclockid clock_getres clock_gettime CLOCK_MONOTONIC CLOCK_MONOTONIC_COARSE
CLOCK_MONOTONIC_RAW clock_nanosleep CLOCK_PROCESS_CPUTIME_ID CLOCK_REALTIME CLOCK_REALTIME_ALARM CLOCK_REALTIME_COARSE
clock_settime clock_t CLOCK_TAI CLOCK_THREAD_CPUTIME_ID clockid_t CLOCKS_PER_SEC close closefrom confstr creat crypt
ctermid ctime ctime_r daddr_t daemon daylight dev_t difftime div div_t dprintf drand48 drand48_r dup dup2 dysize ecvt
ecvt_r endusershell EOF erand48 erand48_r execl execle execlp execv execve execvp exit EXIT_FAILURE EXIT_SUCCESS
explicit_bzero F_LOCK F_OK F_TEST F_TLOCK F_ULOCK faccessat fchdir fchown fchownat fclose fcntl fcvt fcvt_r FD_CLR
FD_ISSET fd_mask FD_SET fd_set FD_SETSIZE FD_ZERO fdatasync fdopen feof feof_unlocked ferror ferror_unlocked fexecve
fflush fflush_unlocked ffs ffsl ffsll fgetc fgetc_unlocked fgetpos fgets FILE FILENAME_MAX fileno fileno_unlocked
flockfile fmemopen fopen FOPEN_MAX fork fpathconf fpclassify fpos_t fprintf fputc fputc_unlocked fputs fread
fread_unlocked free freopen fsblkcnt_t fscanf fseek fseeko fsetpos fsfilcnt_t fsid_t fsync ftell ftello ftruncate
ftrylockfile funlockfile fwrite fwrite_unlocked gcvt getc getc_unlocked getchar getchar_unlocked getcwd getdelim
getdomainname getdtablesize getegid getentropy getenv geteuid getgid getgroups gethostid gethostname getline getloadavg
getlogin getlogin_r getopt getpagesize getpass getpgid getpgrp getpid getppid gets getsid getsubopt getuid getusershell
getw getwd gid_t gmtime gmtime_r htobe16 htobe32 htobe64 htole16 htole32 htole64 id_t imaxabs imaxdiv index initstate
initstate_r ino_t isalnum isalpha isatty isblank iscntrl isdigit isgraph isgreater isgreaterequal isinff isinfl isless
islessequal islessgreater islower isnanf isnanl isnormal isprint ispunct isspace isunordered isupper isxdigit j0 j0f j0l
jrand48 jrand48_r key_t l64a L_ctermid L_INCR L_SET L_tmpnam L_XTND labs lchown lcong48 lcong48_r ldiv ldiv_t le16toh
le32toh le64toh lgamma_r lgammaf_r lgammal_r link linkat LITTLE_ENDIAN llabs lldiv lldiv_t locale_t localtime
localtime_r lockf loff_t longjmp lrand48 lrand48_r lseek malloc math_errhandling mblen mbstowcs mbtowc memccpy memchr
memcmp memcpy memmove memset memset_explicit mkdtemp mkstemp mkstemps mktemp mktime mode_t mrand48 mrand48_r nanosleep
NFDBITS nice nlink_t nrand48 nrand48_r off_t on_exit open open_memstream openat optarg opterr optind optopt P_tmpdir
pathconf pause pclose PDP_ENDIAN perror pid_t pipe popen posix_fadvise posix_fallocate posix_memalign pread printf
profil pselect pthread_attr_t pthread_barrier_t pthread_barrierattr_t pthread_cond_t pthread_condattr_t pthread_key_t
pthread_mutex_t pthread_mutexattr_t pthread_once_t pthread_rwlock_t pthread_rwlockattr_t pthread_spinlock_t pthread_t
putc putc_unlocked putchar putchar_unlocked putenv puts putw pwrite qecvt qecvt_r qfcvt qfcvt_r qgcvt qsort quad_t
quick_exit R_OK raise rand RAND_MAX rand_r random random_r read readlink readlinkat realloc reallocarray realpath
register_t remove rename renameat revoke rewind rindex rmdir rpmatch sbrk scanf seed48 seed48_r SEEK_CUR SEEK_END
SEEK_SET select setbuf setbuffer setdomainname setegid setenv seteuid setgid sethostid sethostname setjmp setlinebuf
setlogin setpgid setpgrp setregid setreuid setsid setstate setstate_r setuid setusershell setvbuf SIG_ATOMIC_MAX
SIG_ATOMIC_MIN signal signgam sigset_t sleep snprintf socklen_t sprintf srand srand48 srand48_r srandom srandom_r sscanf
ssize_t stderr STDERR_FILENO stdin STDIN_FILENO stdout STDOUT_FILENO stpcpy stpncpy strcasecmp strcasecmp_l strcat
strchr strcmp strcoll strcoll_l strcpy strcspn strdup strerror strerror_l strerror_r strfromd strfromf strfroml strftime
strftime_l strlcat strlcpy strlen strncasecmp strncasecmp_l strncat strncmp strncpy strndup strnlen strpbrk strrchr
strsep strsignal strspn strstr strtod strtof strtoimax strtok strtok_r strtol strtold strtoll strtoq strtoul strtoull
strtoumax strtouq strxfrm strxfrm_l suseconds_t symlink symlinkat sync syscall sysconf system tcgetpgrp tcsetpgrp
tempnam time time_t TIME_UTC timegm timelocal TIMER_ABSTIME timer_create timer_delete timer_getoverrun timer_gettime
timer_settime timer_t timespec_get timezone TMP_MAX tmpfile tmpnam tmpnam_r tolower toupper truncate ttyname ttyname_r
ttyslot tzname tzset u_char u_int u_int16_t u_int32_t u_int64_t u_int8_t u_long u_quad_t u_short ualarm uid_t uint ulong
ungetc unlink unlinkat unsetenv useconds_t ushort usleep va_list valloc vdprintf vfork vfprintf vfscanf vhangup vprintf
vscanf vsnprintf vsprintf vsscanf W_OK WCHAR_MAX WCHAR_MIN WCONTINUED wcstombs wctomb WEXITED WEXITSTATUS WIFCONTINUED
WIFEXITED WIFSIGNALED WIFSTOPPED WINT_MAX WINT_MIN WNOHANG WNOWAIT write WSTOPPED WSTOPSIG WTERMSIG WUNTRACED X_OK
""".split()
)


def batch_name(axis: int) -> str:
    """The loop variable of a batch axis of a contraction."""
    return f"batch_{axis}"


_RESERVED = frozenset(
    (*_KEYWORDS, *_OURS, *_OF_CONTRACTIONS, *map(axis_name, range(40)), *(batch_name(n) for n in range(10)))
)
_RESERVED_FORMS = re.compile(
    r"gx_|GX_|__|_[A-Z]|(U?INT|SIZE|PTRDIFF|FLT|DBL|FP|MATH|M)\w*_|(u?int\w*|size|ptrdiff|max_align)_t$"
)


class CNames:
    """A C identifier for each name: the name itself where it is one, else the nearest that is free.

    ``within`` are the names of the scope around this one, whose identifiers are not given again. ``all`` are those given
    anywhere in the outermost scope.
    """

    def __init__(self, taken: Iterable[str] = (), within: CNames | None = None) -> None:
        self.taken, self.within = frozenset(taken), within
        self.known: MutableMapping[str, str] = {}
        self.given: set[str] = set()
        self.all: set[str] = set() if within is None else within.all

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
        self.all.add(found)
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
            if text == "0":  # an axis of one position
                continue
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
        starts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(names, axes)
        self.shapes, self.by_value = shapes, by_value
        self.starts = starts or {}  # the element of an array to which its name points, where that is not the first
        self.place = ""  # of a round in its strip
        self.handed: dict[str, str] = {}  # values that a strip keeps for all of its rounds, and in which array
        self.rows: dict[str, str] = {}  # buffers of a strip: where the row of this round begins
        self.apart: dict[str, int] = {}  # and how far apart its elements are, if not side by side
        self.elements: Mapping[tuple[str, Index], str] = {}  # those that lie elsewhere
        self.locals = CNames(within=names)

    def with_axes(self, axes: Mapping[int, str]) -> ScalarSpeller:
        """The same with other axes, and local names of its own."""
        return ScalarSpeller(self.names, self.shapes, axes, self.by_value, self.starts)

    def finding(self, elements: Mapping[tuple[str, Index], str]) -> ScalarSpeller:
        """The same that finds some elements elsewhere."""
        found = copy(self)
        found.elements = elements
        return found

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
        return f"{self.handed[name]}[{self.place}]" if name in self.handed else self.locals[name]

    def spelled(self, text: str, dtype: DType) -> Scalar:
        """The scalar that is spelled like this."""
        self.locals.known[text] = text
        return Scalar("local", dtype, name=text)

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
        if (tensor, index) in self.elements:
            return self.elements[tensor, index]
        offset = self.index(self.offset(tensor, index) * self.apart.get(tensor, 1))
        return f"{self.names[tensor]}[{self.rows.get(tensor, '')}{offset}]"

    def address(self, tensor: str, index: Index) -> str:
        """Where an element of an array lies."""
        offset = self.offset(tensor, index)
        return self.names[tensor] + (f" + {self.index(offset)}" if offset != Index() else "")

    def offset(self, tensor: str, index: Index) -> Index:
        """How far an element is from where the name of the array points."""
        return index + -self.starts[tensor] if tensor in self.starts else index

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
