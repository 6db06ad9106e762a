"""Every setting, once: name, type, default, bounds, help, and when a change applies."""

from dataclasses import dataclass, field

from asgi_master.settings.fields import Applies, Setting, setting, settings_of, titled
from asgi_master.settings.values import (
    AUTO_CONNECTIONS,
    BYTES,
    CONNECTIONS,
    LINES,
    LIST,
    MODE,
    PATH,
    PEERS,
    SECRET,
    UMASK,
    UNSET_UMASK,
    WORKERS,
)

_START = Applies.START


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """What to serve."""

    app: str = setting(
        "",
        argument=True,
        metavar="APP",
        help="The application: MODULE:ATTRIBUTE, such as main:app or package.module:object.app.",
    )
    factory: bool = setting(
        False, help="The target is a function without arguments that makes the application."
    )
    chdir: str = setting(
        "",
        kind=PATH,
        metavar="DIR",
        applies=_START,
        help="Directory to enter first, where relative paths begin; each reload enters it again by this name, so that "
        "a symbolic link may be switched. Unless given, that in which the master was started.",
    )
    app_dir: str = setting(
        ".", kind=PATH, help="Directory to import the application from; it is first on sys.path."
    )
    env_file: str = setting(
        "",
        kind=PATH,
        help="File of KEY=VALUE lines for the application's environment; variables that exist already win. Quotes, "
        "values over several lines and ${NAME} are understood; settings of asgi-master in it are refused.",
    )


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Which processes live, and for how long."""

    workers: int = setting(
        1,
        kind=WORKERS,
        short="-w",
        minimum=1,
        maximum=1000,
        help="Worker processes; auto is one per CPU that the affinity mask and the cgroup quota leave us.",
    )
    preload: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="Import the application once and fork the workers from it; auto does so unless the import left "
        "behind what does not survive a fork (threads, connections), off lets each worker import for itself.",
    )
    boot_timeout: float = setting(
        60.0,
        minimum=0.1,
        help="From the start of a worker until it is ready, its import and lifespan startup included.",
    )
    drain_timeout: float = setting(
        30.0,
        minimum=0,
        help="How long a leaving worker may take to finish its requests, lifespan shutdown included; with reload 2 "
        "unless given.",
    )
    shutdown_timeout: float = setting(
        5.0,
        minimum=0,
        help="The part of drain-timeout kept for lifespan shutdown; unless given, at most half of it.",
    )
    shutdown_delay: float = setting(
        0.0,
        minimum=0,
        help="How long the workers serve on when the master is told to stop, its readiness already gone, so that load "
        "balancers learn of it before anybody is turned away; a second signal ends the waiting.",
    )
    kill_grace: float = setting(
        1.0, minimum=0, help="How long after drain-timeout the master waits before it kills a worker."
    )
    hang_timeout: float = setting(
        30.0,
        minimum=0,
        help="A worker whose event loop is blocked by one call for longer is killed, its stacks logged; 0: never.",
    )
    stall_warn: float = setting(
        1.0,
        minimum=0,
        help="An event loop that does not turn for longer is logged, with the request and the line of the "
        "application that hold it; 0: never.",
    )
    max_requests: int = setting(
        0,
        minimum=0,
        help="A worker that served so many requests is replaced, its successor ready before it leaves; 0: never.",
    )
    max_requests_jitter: int = setting(
        -1,
        minimum=-1,
        help="Up to so many requests more, at random, so that workers do not leave together; "
        "-1: a tenth of max-requests.",
    )
    max_lifetime: float = setting(
        0.0,
        minimum=0,
        help="A worker that served for so long, and up to a tenth longer at random, is replaced; 0: never.",
    )
    max_worker_memory: int = setting(
        0,
        kind=BYTES,
        minimum=0,
        help="A worker that keeps more memory of its own than this (USS: shared pages do not count) is "
        "replaced; 0: never.",
    )
    max_worker_memory_hard: int = setting(
        0,
        kind=BYTES,
        minimum=0,
        help="A worker seen once with more memory of its own than this leaves at once, before its successor is "
        "ready; 0: never.",
    )
    max_surge: int = setting(
        1,
        minimum=0,
        maximum=1000,
        help="How many workers above the number of workers may live while workers are replaced.",
    )
    max_unavailable: int = setting(
        0, minimum=0, maximum=1000, help="How many of the workers may be missing while workers are replaced."
    )
    health_path: str = setting(
        "",
        metavar="PATH",
        help="What each worker asks its own application for, as a client with Host: localhost would, before it serves; "
        "it does so only after an answer of 2xx or 3xx.",
    )
    health_timeout: float = setting(
        10.0,
        minimum=0.1,
        help="How long the answer on health-path may be another, or none, before the worker has failed to start.",
    )
    watch_time: float = setting(
        1.0,
        minimum=0,
        help="How long a reload's first worker must stay ready before the others follow, and its last before the "
        "reload is committed.",
    )
    max_error_share: int = setting(
        20,
        minimum=0,
        maximum=100,
        help="A reload that is not committed yet fails if new workers answer 5 requests or more with 5xx, or break "
        "off responses, and their share exceeds that of the old workers by more than so many percent; 0: never.",
    )
    rollback_window: float = setting(
        300.0,
        minimum=0,
        help="How long after a reload the old code is kept in memory, so that `asgi-masterctl rollback` can return "
        "to it; 0: not at all.",
    )
    spare: int = setting(
        0,
        minimum=0,
        maximum=100,
        help="Workers beyond the number of workers that are started, but accept nothing until one of those is lost.",
    )
    on_oom: str = setting(
        "respawn",
        choices=("respawn", "exit"),
        help="When the kernel kills a worker for want of memory: replace it, or stop gracefully with status 7, for "
        "whoever started us to begin anew.",
    )
    backoff_cap: float = setting(
        30.0, minimum=0.5, help="The longest pause before a worker that keeps crashing is started again."
    )
    pid_file: str = setting("", kind=PATH, applies=_START, help="File to write the master's process id to.")
    control_socket: str = setting(
        "auto",
        kind=PATH,
        metavar="PATH|auto|off",
        applies=_START,
        help="Unix socket that asgi-masterctl steers the master through; auto is a path of its own for each "
        "master, found by asgi-masterctl.",
    )
    name: str = setting("", short="-n", help="Name in the process titles instead of the application's.")


@dataclass(frozen=True, slots=True)
class PrivilegeSettings:
    """Whose rights the application has."""

    user: str = setting(
        "",
        metavar="NAME|UID",
        applies=_START,
        help="User that runs the application, taken before any of it is imported; the master stays root. root says "
        "that this is meant.",
    )
    group: str = setting(
        "",
        metavar="NAME|GID",
        applies=_START,
        help="Group of that user instead of the login group; the supplementary groups are kept.",
    )
    umask: int = setting(
        UNSET_UMASK,
        kind=UMASK,
        minimum=UNSET_UMASK,
        help="Permission bits that files of the application are made without; inherit keeps those we were started "
        "with.",
    )
    no_new_privs: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="Whether programs that the application executes are kept from gaining rights by set-user-ID bits; auto is "
        "on where user is given.",
    )


@dataclass(frozen=True, slots=True)
class DevelopmentSettings:
    """For the developer's machine."""

    reload: bool = setting(
        False,
        applies=_START,
        help="Reload when the application's files change (needs watchfiles); for development.",
    )
    reload_dir: tuple[str, ...] = setting(
        (),
        metavar="DIR",
        applies=_START,
        help="Directory to watch instead of the working directory; may be repeated.",
    )
    reload_include: tuple[str, ...] = setting(
        ("*.py",), metavar="GLOB", applies=_START, help="Pattern of the file names to watch; may be repeated."
    )


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Where to listen."""

    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8000",),
        short="-b",
        metavar="ADDRESS",
        help="Address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or systemd:NAME (a socket unit's "
        "FileDescriptorName=), and for TLS https:// before it; may be repeated. Port 0 takes a free one. [::] is IPv6 "
        "alone, 0.0.0.0 is IPv4: give both for both.",
    )
    backlog: int = setting(
        2048,
        minimum=1,
        maximum=2**31 - 1,
        applies=_START,
        help="Connections the kernel queues for each address.",
    )
    uds_mode: int = setting(
        0o660,
        kind=MODE,
        applies=_START,
        help="Permissions of Unix sockets; the proxy in front must be able to write.",
    )
    uds_owner: str = setting(
        "",
        metavar="[USER][:GROUP]",
        applies=_START,
        help="Owner of Unix sockets, by name or number (needs the right to give files away); USER: is with the login "
        "group. Unless given, user and group where those are.",
    )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS, on the addresses that begin with https://."""

    certfile: tuple[str, ...] = setting(
        (),
        kind=LIST,
        metavar="PATH",
        help="Certificate and its chain, in PEM; may be repeated: clients get the one with the host name they ask for, "
        "or else the first. The files are watched, and new ones are used without a restart or reload.",
    )
    keyfile: tuple[str, ...] = setting(
        (),
        kind=LIST,
        metavar="PATH",
        help="Private key, in PEM; one for each certfile in the same order, or none if those hold the keys too.",
    )
    keyfile_password: str = setting(
        "",
        kind=SECRET,
        help="Password of encrypted keys. Others can see it on a command line: keyfile-password-file is better.",
    )
    keyfile_password_file: str = setting(
        "", kind=PATH, help="File whose first line is the password of encrypted keys."
    )
    ca_certs: str = setting(
        "", kind=PATH, help="Certificates, in PEM, that those of clients are verified with."
    )
    client_cert: str = setting(
        "none",
        choices=("none", "optional", "required"),
        help="Whether clients are asked for a certificate; one that cannot be verified is always refused.",
    )
    tls_min_version: str = setting(
        "1.2", choices=("1.2", "1.3"), help="The oldest version of TLS that is spoken."
    )
    ciphers: str = setting(
        "",
        metavar="LIST",
        help="Cipher suites for TLS 1.2, in OpenSSL's words; unless given, Python's choice. TLS 1.3 has its own.",
    )
    tls_handshake_timeout: float = setting(
        10.0, minimum=0.1, help="How long a client may take for the handshake."
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """HTTP, and what a client may ask of us."""

    http: str = setting(
        "httptools", choices=("httptools", "h11"), help="The HTTP/1.1 parser: the fast one, or the reference."
    )
    root_path: str = setting(
        "", metavar="PATH", help="Path the application is mounted at by the proxy in front."
    )
    server_header: bool = setting(True, help="Send a Server header unless the application sets one.")
    date_header: bool = setting(True, help="Send a Date header unless the application sets one.")
    header: tuple[str, ...] = setting(
        (),
        kind=LINES,
        metavar="NAME:VALUE",
        help="Header to add to every response, as 'Name: value'; may be repeated.",
    )
    limit_request_line: int = setting(8192, kind=BYTES, minimum=256, help="Longest request line.")
    limit_header_count: int = setting(100, minimum=1, help="Most headers of a request.")
    limit_header_bytes: int = setting(
        65536, kind=BYTES, minimum=1024, help="Largest header section of a request."
    )
    limit_body_size: int = setting(0, kind=BYTES, minimum=0, help="Largest request body; 0: any.")
    header_timeout: float = setting(
        15.0, minimum=0, help="How long a request's header section may take to arrive; 0: for ever."
    )
    body_timeout: float = setting(
        30.0, minimum=0, help="Longest pause in a request body that the application waits for; 0: for ever."
    )
    body_min_rate: int = setting(
        240,
        kind=BYTES,
        minimum=0,
        help="Least bytes a second at which a request body must arrive while it is waited for, averaged over "
        "body-timeout (over 30 s, if that is 0); no limit to bodies that the application does not read or to "
        "WebSockets. 0: any rate.",
    )
    keep_alive_timeout: float = setting(
        75.0, minimum=0, help="How long an idle connection is kept for the next request; 0: for ever."
    )
    write_timeout: float = setting(
        30.0, minimum=0, help="How long a client that does not read may hold back a response; 0: for ever."
    )
    request_timeout: float = setting(
        0.0,
        minimum=0,
        help="How long the application may take to begin its response, the upload included, before the request "
        "is cancelled and answered 504; looked at once a second, and no limit to a response that has begun "
        "or to WebSockets. 0: for ever.",
    )
    max_active_requests: int = setting(
        0, minimum=0, help="Requests that each worker serves at once; more are answered 503. 0: any number."
    )
    max_connections: int = setting(
        AUTO_CONNECTIONS,
        kind=CONNECTIONS,
        minimum=AUTO_CONNECTIONS,
        help="Connections that each worker holds; more wait in the kernel's queue. auto is three quarters of the "
        "descriptors that a worker may open (RLIMIT_NOFILE, ulimit -n), which leaves the others to the application; "
        "0: any number.",
    )


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Proxies in front, and what they are believed."""

    forwarded_allow_ips: tuple[str, ...] = setting(
        (),
        kind=PEERS,
        metavar="ADDRESS|NETWORK|unix|*",
        help="Proxies to believe when they say whose request it is and whether it came by https; may be repeated. "
        "unix is whoever reaches our Unix sockets, and * any peer, for the last address it names only.",
    )
    forwarded_headers: str = setting(
        "x-forwarded",
        choices=("x-forwarded", "forwarded"),
        help="Where they say so: X-Forwarded-For and X-Forwarded-Proto, or Forwarded (RFC 7239). The others are not "
        "looked at, as a proxy that does not write them passes those of its clients on.",
    )
    forwarded_prefix: bool = setting(
        False,
        help="Believe them about the path they took away, too (X-Forwarded-Prefix, as Traefik sends it): it is the "
        "root path of that request, whatever root-path says. Each of them must set that header or remove it.",
    )
    proxy_protocol: bool = setting(
        False,
        help="Expect a PROXY header, version 1 or 2, before the first byte of every connection, that of TLS included; "
        "without it, and from others than proxy-protocol-allow-ips, connections are refused.",
    )
    proxy_protocol_allow_ips: tuple[str, ...] = setting(
        (),
        kind=PEERS,
        metavar="ADDRESS|NETWORK|unix|*",
        help="Proxies that may connect with a PROXY header; as for forwarded-allow-ips, may be repeated.",
    )


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """WebSockets."""

    ws_max_size: int = setting(
        16 * 1024 * 1024,
        kind=BYTES,
        minimum=1,
        help="Largest message, decompressed; above, the connection closes (1009).",
    )
    ws_queue_size: int = setting(
        16,
        minimum=1,
        help="Messages that wait for the application before the connection is no longer read. The client's close is "
        "not seen then either: an application that only sends learns of it when a message cannot be sent any more.",
    )
    ws_ping_interval: float = setting(20.0, minimum=0, help="Time between keepalive pings; 0: none.")
    ws_ping_timeout: float = setting(
        20.0, minimum=0, help="How long a client may take to answer a ping; 0: for ever."
    )
    ws_per_message_deflate: bool = setting(True, help="Compress messages for clients that offer it.")
    ws_close_timeout: float = setting(5.0, minimum=0, help="How long a client may take to answer a close.")


@dataclass(frozen=True, slots=True)
class LifespanSettings:
    """The application's startup and shutdown."""

    lifespan: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="Whether the application is told of startup and shutdown; auto finds out if it listens.",
    )
    startup_timeout: float = setting(30.0, minimum=0.1, help="How long the application's startup may take.")


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """The event loop."""

    loop: str = setting("uvloop", choices=("uvloop", "asyncio"), help="The event loop of the workers.")


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """What is told, and how."""

    log_level: str = setting(
        "info",
        choices=("critical", "error", "warning", "info", "debug"),
        help="The least important messages to log.",
    )
    log_format: str = setting(
        "auto",
        choices=("auto", "text", "json", "gcp", "datadog", "ecs"),
        help="Lines for people or JSON for machines, with the names of fields that Google Cloud, Datadog or "
        "Elastic expect; auto is text.",
    )
    log_timezone: str = setting(
        "local",
        metavar="local|utc|ZONE",
        help="Time zone of log and access log in every process: local, utc, or a name such as Europe/Berlin.",
    )
    traceback: str = setting(
        "app",
        choices=("app", "full"),
        help="Frames in tracebacks: app folds those of frameworks and libraries to their count.",
    )
    access_log: bool = setting(False, help="Write a line for each request to standard output.")
    access_log_file: str = setting(
        "",
        kind=PATH,
        help="File that the access log is appended to, and which turns it on; SIGUSR1 and SIGHUP reopen it. "
        "-: standard output.",
    )
    access_log_format: str = setting(
        "combined",
        metavar="FORMAT",
        help="The access log's line: combined, common, or atoms such as '%(h)s %(s)s'. Not where log-format is JSON.",
    )
    access_log_header: tuple[str, ...] = setting(
        (),
        metavar="NAME",
        help="Headers that JSON access lines and records show: x-tenant of requests, response:x-cache of responses; "
        "may be repeated.",
    )
    request_id_header: tuple[str, ...] = setting(
        ("x-request-id", "x-correlation-id", "traceparent"),
        metavar="NAME",
        help="Headers in which a request's number is looked for, for log and access log alone; the first that it has. "
        "Clients can write what they like there.",
    )
    access_log_exclude: tuple[str, ...] = setting(
        (),
        metavar="PATTERN",
        help="Requests that the access log leaves out: a path such as /healthz or /static/*, or "
        "user-agent:kube-probe/*; may be repeated.",
    )
    log_config: str = setting(
        "",
        kind=PATH,
        help="File that configures Python's logging (.json, .yaml, .toml or .ini) instead of the settings here.",
    )

    @property
    def logs_requests(self) -> bool:
        """Whether there is an access log."""
        return self.access_log or bool(self.access_log_file)

    @property
    def access_log_path(self) -> str:
        """The file of the access log; empty where it goes to standard output, or nowhere."""
        return "" if self.access_log_file == "-" else self.access_log_file


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """What others may see."""

    admin_bind: str = setting(
        "",
        metavar="ADDRESS",
        applies=_START,
        help="Address where the master answers /livez, /readyz, /startupz and /metrics, to anybody: HOST:PORT, "
        "[IPV6]:PORT or unix:PATH; off unless given.",
    )
    ready_quorum: int = setting(
        1,
        minimum=1,
        maximum=1000,
        help="Workers that must serve for /readyz to say so; at most the number of workers counts.",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked."""

    application: ApplicationSettings = field(
        default_factory=ApplicationSettings, metadata=titled("Application")
    )
    process: ProcessSettings = field(default_factory=ProcessSettings, metadata=titled("Processes"))
    privileges: PrivilegeSettings = field(default_factory=PrivilegeSettings, metadata=titled("Privileges"))
    sockets: SocketSettings = field(default_factory=SocketSettings, metadata=titled("Sockets"))
    tls: TlsSettings = field(default_factory=TlsSettings, metadata=titled("TLS"))
    http: HttpSettings = field(default_factory=HttpSettings, metadata=titled("HTTP"))
    proxy: ProxySettings = field(default_factory=ProxySettings, metadata=titled("Behind a proxy"))
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings, metadata=titled("WebSocket"))
    lifespan: LifespanSettings = field(default_factory=LifespanSettings, metadata=titled("Lifespan"))
    loop: LoopSettings = field(default_factory=LoopSettings, metadata=titled("Event loop"))
    logging: LoggingSettings = field(default_factory=LoggingSettings, metadata=titled("Logging"))
    observation: ObservationSettings = field(
        default_factory=ObservationSettings, metadata=titled("Health and metrics")
    )
    development: DevelopmentSettings = field(
        default_factory=DevelopmentSettings, metadata=titled("Development")
    )


SETTINGS: tuple[Setting, ...] = tuple(settings_of(Settings))
"""Every setting, in the order of the help and the reference page."""
