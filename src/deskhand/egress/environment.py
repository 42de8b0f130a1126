"""What a container is told of its way out: variables that the usual clients read. Pure."""

import re
from typing import Final

from .authority import TRUST_STORE_PASSWORD

BUNDLE: Final = "ca-bundle.pem"
TRUST_STORE: Final = "trust-store.p12"
WGETRC: Final = "wgetrc"
LONGEST_NAME: Final = 128

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_PREFIXES: Final = (
    "DESKHAND_",
    "LD_",
    "PYTHON",
    "BASH",
    "NODE_",
    "GIT_",
    "SSL_",
    "PIP_",
    "NPM_CONFIG_",
    "LC_",
)
_RESERVED: Final = frozenset(
    (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TMPDIR", "PWD", "OLDPWD", "IFS", "ENV",
        "UID", "EUID", "PPID", "SHLVL", "HOSTNAME", "VIRTUAL_ENV", "PS1", "PS2", "PS4", "CDPATH", "MALLOC_ARENA_MAX",
        "MPLCONFIGDIR", "JAVA_HOME", "CLASSPATH", "PERL5LIB", "PERL5OPT", "RUBYLIB", "RUBYOPT", "PROMPT_COMMAND",
        "SHELLOPTS", "GLOBIGNORE", "HISTFILE", "MAIL", "EDITOR", "PAGER", "TZ", "GOPROXY", "GOFLAGS", "_",
    )
)  # fmt: skip


def variables(folder: str, proxy: str) -> dict[str, str]:
    """The variables of a container whose relay listens at `proxy`, and that sees the trusted certificates in `folder`.

    Sources: curl(1), wget(1), pip's and npm's configuration, git-config(1), Node's command line, Cargo's configuration,
    the AWS CLI's and gRPC's documentation, Java's networking properties.
    """
    bundle = f"{folder}/{BUNDLE}"
    host, _, port = proxy.removeprefix("http://").partition(":")
    java = (
        f"-Djavax.net.ssl.trustStore={folder}/{TRUST_STORE} -Djavax.net.ssl.trustStoreType=PKCS12 "
        f"-Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD} "
        f"-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"
    )
    addresses = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), proxy
    )
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
    trust = dict.fromkeys(_TRUST, bundle)
    others = {"NODE_USE_ENV_PROXY": "1", "JAVA_TOOL_OPTIONS": java, "WGETRC": f"{folder}/{WGETRC}"}
    return {**addresses, **direct, **trust, **others}


def wgetrc(folder: str) -> bytes:
    """The settings of wget, which reads no variable for its certificates."""
    return f"ca_certificate = {folder}/{BUNDLE}\n".encode()


def objection(name: str) -> str:
    """Why a secret cannot have this name; "" if it can."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return f"a secret's name has 1 to {LONGEST_NAME} letters, digits and underscores, and begins with no digit"
    upper = name.upper()
    if upper in _RESERVED or upper in _PROXIED or upper.startswith(_RESERVED_PREFIXES):
        return f"the name '{name}' is reserved for a variable that programs read for themselves"
    return ""


_TRUST: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "DENO_CERT",
    "NPM_CONFIG_CAFILE",
)
_PROXIED: Final = frozenset(name.upper() for name in variables("", "http://:"))
