"""Every setting, once: name, type, default, bounds, help, and when a change applies."""

from dataclasses import field

from asgi_master.records import record
from asgi_master.settings.fields import Applies, Setting, group_title, setting, settings_of
from asgi_master.settings.values import (
    AUTO_CONNECTIONS,
    BYTES,
    CONNECTIONS,
    LINES,
    LIST,
    MODE,
    NAMED_LIST,
    PATH,
    PEERS,
    SECRET,
    UMASK,
    UNSET_UMASK,
    WORKERS,
)

_START = Applies.START


@record
class ApplicationSettings:
    """The application."""

    app: str = setting(
        "",
        argument=True,
        metavar="APP",
        help="The application: MODULE:ATTRIBUTE, such as main:app or package.module:object.app.",
    )
    factory: bool = setting(
        False, help="Treat APP as a factory: call it without arguments to get the application."
    )
    interface: str = setting(
        "auto",
        choices=("auto", "asgi", "wsgi"),
        help="How the application is called; auto: by WSGI if it takes two arguments and is no coroutine "
        "function, else by ASGI.",
    )
    threads: int = setting(
        8,
        minimum=1,
        maximum=1000,
        help="Number of threads in each worker that call a WSGI application; 1 calls it for one request at a "
        "time. Does not apply to ASGI.",
    )
    chdir: str = setting(
        "",
        value_type=PATH,
        metavar="DIR",
        applies=_START,
        help="Working directory, to which relative paths refer. Each reload enters it again by this "
        "name, so a symbolic link may be switched. Default: the directory in which the master was "
        "started.",
    )
    app_dir: str = setting(
        ".", value_type=PATH, help="Directory to import the application from; it is first on sys.path."
    )
    env_file: str = setting(
        "",
        value_type=PATH,
        help="File of KEY=VALUE lines for the application's environment; variables that exist already win. Quotes, "
        "values over several lines and ${NAME} are understood; settings of asgi-master in it are refused.",
    )


@record
class ProcessSettings:
    """The processes: number, lifetime, replacement."""

    workers: int = setting(
        1,
        value_type=WORKERS,
        short="-w",
        minimum=1,
        maximum=1000,
        help="Number of worker processes; auto is one per CPU, as far as the affinity mask and the "
        "cgroup's quota allow.",
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
        help="Time a worker may take to become ready, including import and lifespan startup.",
    )
    drain_timeout: float = setting(
        30.0,
        minimum=0,
        help="Time a worker may take to finish its requests and shut down, including the lifespan "
        "shutdown. Default with reload: 2.",
    )
    shutdown_timeout: float = setting(
        5.0,
        minimum=0,
        help="Part of drain-timeout that is reserved for the lifespan shutdown. Default: at most half of it.",
    )
    shutdown_delay: float = setting(
        0.0,
        minimum=0,
        help="Time the workers continue to serve after a stop signal, while /readyz already fails, so "
        "that load balancers stop sending requests first. A second signal ends the wait.",
    )
    kill_grace: float = setting(
        1.0, minimum=0, help="Time after drain-timeout before the master kills a worker."
    )
    hang_timeout: float = setting(
        30.0,
        minimum=0,
        help="Kill a worker whose event loop is blocked by one call for longer than this, after "
        "logging its stacks; 0: never.",
    )
    stall_warn: float = setting(
        1.0,
        minimum=0,
        help="Log an event loop that is blocked for longer than this, with the request and the line of "
        "the application that block it; 0: never.",
    )
    max_requests: int = setting(
        0,
        minimum=0,
        help="Replace a worker after this many requests. Its successor is ready before it stops; 0: never.",
    )
    max_requests_jitter: int = setting(
        -1,
        minimum=-1,
        help="Random number of requests, up to this, added to max-requests so that workers are not "
        "replaced at the same time; -1: a tenth of max-requests.",
    )
    max_lifetime: float = setting(
        0.0,
        minimum=0,
        help="Replace a worker after this time, plus up to a tenth at random; 0: never.",
    )
    max_worker_memory: int = setting(
        0,
        value_type=BYTES,
        minimum=0,
        help="Replace a worker whose unshared memory (USS) stays above this; 0: never.",
    )
    max_worker_memory_hard: int = setting(
        0,
        value_type=BYTES,
        minimum=0,
        help="Stop a worker as soon as its unshared memory (USS) exceeds this, before its successor is "
        "ready; 0: never.",
    )
    max_surge: int = setting(
        1,
        minimum=0,
        maximum=1000,
        help="Number of workers that may run in addition to workers while workers are replaced.",
    )
    max_unavailable: int = setting(
        0, minimum=0, maximum=1000, help="Number of workers that may be missing while workers are replaced."
    )
    health_path: str = setting(
        "",
        metavar="PATH",
        help="Path that each worker requests from its own application before it serves, with Host: "
        "localhost. The worker serves only after a 2xx or 3xx response.",
    )
    health_timeout: float = setting(
        10.0,
        minimum=0.1,
        help="Time within which health-path must return 2xx or 3xx; after that the worker has failed "
        "to start.",
    )
    watch_time: float = setting(
        1.0,
        minimum=0,
        help="Time the first worker of a reload must stay ready before the others follow, and the last "
        "one before the reload is committed.",
    )
    max_error_share: int = setting(
        20,
        minimum=0,
        maximum=100,
        help="Fail a reload before its commit if the new workers answer 5 or more requests with 5xx or "
        "break off responses, and their share exceeds that of the old workers by more than this "
        "percentage; 0: never.",
    )
    rollback_window: float = setting(
        300.0,
        minimum=0,
        help="Time after a reload for which the old code is kept in memory, so that `asgi-masterctl "
        "rollback` can return to it; 0: not at all.",
    )
    spares: int = setting(
        0,
        old_name="spare",
        minimum=0,
        maximum=100,
        help="Number of additional workers that are started but accept no connections until another "
        "worker is lost.",
    )
    on_oom: str = setting(
        "respawn",
        choices=("respawn", "exit"),
        help="When the kernel kills a worker for lack of memory: replace it, or stop gracefully with "
        "status 7 so that the service manager restarts the service.",
    )
    backoff_cap: float = setting(
        30.0, minimum=0.5, help="Maximum delay before a worker that keeps crashing is started again."
    )
    pid_file: str = setting(
        "", value_type=PATH, applies=_START, help="File to write the master's process id to."
    )
    control_socket: str = setting(
        "auto",
        value_type=PATH,
        metavar="PATH|auto|off",
        applies=_START,
        help="Unix socket that asgi-masterctl steers the master through; auto is a path of its own for each "
        "master, found by asgi-masterctl.",
    )
    name: str = setting("", short="-n", help="Name shown in process titles instead of the application's.")


@record
class ServiceSettings:
    """Services: functions that run in one process each for the whole server."""

    service: tuple[str, ...] = setting(
        (),
        value_type=NAMED_LIST,
        metavar="[NAME=]TARGET",
        help="Function or coroutine function, MODULE:CALLABLE, to run in one process for the whole server beside the "
        "workers, such as scheduler=app.jobs:run; may be repeated. Without a name, it has the callable's.",
    )
    service_overlap: bool = setting(
        False,
        help="At a reload, start the new generation's services before the old ones are stopped, so that two of each "
        "run for a moment; by default the old one ends first.",
    )
    service_stop_timeout: float = setting(
        10.0, minimum=0.1, help="Time a service may take to end after SIGTERM, before it is killed."
    )


@record
class PrivilegeSettings:
    """Rights of the application."""

    user: str = setting(
        "",
        metavar="NAME|UID",
        applies=_START,
        help="User that the application runs as, set before it is imported; the master stays root. "
        "root confirms that the application is meant to run as root.",
    )
    group: str = setting(
        "",
        metavar="NAME|GID",
        applies=_START,
        help="Group that the application runs as, instead of the user's login group. Supplementary "
        "groups are kept.",
    )
    umask: int = setting(
        UNSET_UMASK,
        value_type=UMASK,
        minimum=UNSET_UMASK,
        help="Umask of the application; inherit keeps the one that asgi-master was started with.",
    )
    no_new_privs: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="Set no_new_privs: programs that the application executes cannot gain privileges by set- "
        "user-ID bits. auto is on if user is given.",
    )


@record
class DevelopmentSettings:
    """Development."""

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
        (),
        metavar="GLOB",
        applies=_START,
        help="Pattern of file names to watch besides *.py and the files with the settings; may be repeated.",
    )
    reload_exclude: tuple[str, ...] = setting(
        (),
        metavar="GLOB",
        applies=_START,
        help="Pattern of file names not to watch, or with a slash of the end of paths; may be repeated.",
    )
    reload_verify: bool = setting(
        False,
        applies=_START,
        help="After each warm reload, import the application in a new interpreter too, and log what differs.",
    )
    error_page: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="With --reload, answer with the traceback while the application cannot be started; auto does so where all "
        "addresses are on this machine, off answers without the details.",
    )


@record
class SocketSettings:
    """Listening sockets."""

    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8000",),
        short="-b",
        metavar="ADDRESS",
        help="Address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or systemd:NAME (a socket unit's "
        "FileDescriptorName=), and for TLS https:// before it; may be repeated. Port 0 takes a free one. [::] is IPv6 "
        "alone, 0.0.0.0 is IPv4: give both for both. {slot} or {slot:02} in a port or path makes an address for each "
        "slot, such as unix:/run/app-{slot}.sock, which its worker alone serves.",
    )
    backlog: int = setting(
        4096,
        minimum=1,
        maximum=2**31 - 1,
        applies=_START,
        help="Maximum number of connections in the kernel's accept queue, per address.",
    )
    uds_mode: int = setting(
        0o660,
        value_type=MODE,
        applies=_START,
        help="Permissions of Unix sockets; the proxy in front must be able to write.",
    )
    uds_owner: str = setting(
        "",
        metavar="[USER][:GROUP]",
        applies=_START,
        help="Owner of Unix sockets, by name or number (requires CAP_CHOWN); USER: includes the login "
        "group. Default: user and group, if given.",
    )


@record
class TlsSettings:
    """TLS, on addresses with https://."""

    certfile: tuple[str, ...] = setting(
        (),
        value_type=LIST,
        metavar="PATH",
        help="Certificate and its chain, in PEM; may be repeated: clients get the one with the host name they ask for, "
        "or else the first. The files are watched, and new ones are used without a restart or reload.",
    )
    keyfile: tuple[str, ...] = setting(
        (),
        value_type=LIST,
        metavar="PATH",
        help="Private key, in PEM; one for each certfile in the same order, or none if those hold the keys too.",
    )
    keyfile_password: str = setting(
        "",
        value_type=SECRET,
        help="Password of encrypted keys. Others can see it on a command line: keyfile-password-file is better.",
    )
    keyfile_password_file: str = setting(
        "", value_type=PATH, help="File whose first line is the password of encrypted keys."
    )
    ca_certs: str = setting(
        "", value_type=PATH, help="CA certificates, in PEM, that client certificates are verified against."
    )
    client_cert: str = setting(
        "none",
        choices=("none", "optional", "required"),
        help="Whether clients must present a certificate. One that cannot be verified is always refused.",
    )
    tls_min_version: str = setting("1.2", choices=("1.2", "1.3"), help="Minimum TLS version.")
    ciphers: str = setting(
        "",
        metavar="LIST",
        help="Cipher suites for TLS 1.2, in OpenSSL's words; unless given, Python's choice. TLS 1.3 has its own.",
    )
    tls_handshake_timeout: float = setting(
        10.0, minimum=0.1, help="Time a client may take for the TLS handshake."
    )


@record
class HttpSettings:
    """HTTP, and limits for clients."""

    parser: str = setting(
        "auto",
        name="http",
        choices=("auto", "zttp", "httptools", "h11"),
        help="HTTP/1.1 parser; `auto` uses zttp if it is installed, otherwise httptools. h11 is the slow reference.",
    )
    http2: bool = setting(
        True,
        help="Speak HTTP/2 with clients that ask for it: by ALPN on TLS, by prior knowledge elsewhere.",
    )
    http2_engine: str = setting(
        "own",
        choices=("own", "h2"),
        help="HTTP/2 engine; h2 is the slow reference, without bounds for floods, and has to be installed.",
    )
    http2_max_concurrent_streams: int = setting(
        128,
        minimum=1,
        maximum=65536,
        help="Maximum number of requests that one HTTP/2 connection may have at once.",
    )
    http2_max_streams: int = setting(
        4096,
        minimum=0,
        help="Requests that all HTTP/2 connections of a worker may have at once. Beyond, a connection with its fair "
        "share of them, or more, gets REFUSED_STREAM. 0 means unlimited.",
    )
    root_path: str = setting(
        "", metavar="PATH", help="Path at which the proxy in front mounts the application."
    )
    server_header: bool = setting(True, help="Send a Server header unless the application sets one.")
    date_header: bool = setting(True, help="Send a Date header unless the application sets one.")
    header: tuple[str, ...] = setting(
        (),
        value_type=LINES,
        metavar="NAME:VALUE",
        help="Header to add to every response, as 'Name: value'; may be repeated.",
    )
    limit_request_line: int = setting(
        8192, value_type=BYTES, minimum=256, help="Maximum length of the request line."
    )
    limit_header_count: int = setting(100, minimum=1, help="Maximum number of headers in a request.")
    limit_header_bytes: int = setting(
        65536, value_type=BYTES, minimum=1024, help="Maximum size of a request's header section."
    )
    limit_body_size: int = setting(
        0, value_type=BYTES, minimum=0, help="Maximum size of a request body; 0: unlimited."
    )
    header_timeout: float = setting(
        15.0, minimum=0, help="Time a request's header section may take to arrive; 0: unlimited."
    )
    body_timeout: float = setting(
        30.0,
        minimum=0,
        help="Maximum pause in a request body while the application waits for it; 0: unlimited.",
    )
    body_min_rate: int = setting(
        240,
        value_type=BYTES,
        minimum=0,
        help="Minimum rate of a request body, in bytes per second, while the application waits for it, "
        "averaged over body-timeout (30 s if that is 0). Does not apply to bodies that the "
        "application does not read or to WebSockets. 0: unlimited.",
    )
    keep_alive_timeout: float = setting(
        75.0, minimum=0, help="Time an idle connection is kept open for the next request; 0: unlimited."
    )
    write_timeout: float = setting(
        30.0, minimum=0, help="Time a client that does not read may block a response; 0: unlimited."
    )
    request_timeout: float = setting(
        0.0,
        minimum=0,
        help="Time the application may take to begin its response, including the upload, before the "
        "request is cancelled and answered 504. Checked once a second; does not apply to "
        "responses that have begun or to WebSockets. 0: unlimited.",
    )
    max_active_requests: int = setting(
        0,
        minimum=0,
        help="Maximum number of requests that each worker serves at once; others are answered 503. 0: "
        "unlimited.",
    )
    max_connections: int = setting(
        AUTO_CONNECTIONS,
        value_type=CONNECTIONS,
        minimum=AUTO_CONNECTIONS,
        help="Maximum number of connections per worker; others wait in the kernel's queue. auto is "
        "three quarters of the file descriptor limit (RLIMIT_NOFILE, ulimit -n), which leaves the "
        "rest to the application; 0: unlimited.",
    )


@record
class ProxySettings:
    """Proxies in front, and the extent to which they are trusted."""

    forwarded_allow_ips: tuple[str, ...] = setting(
        (),
        value_type=PEERS,
        metavar="ADDRESS|NETWORK|unix|*",
        help="Proxies that are trusted to name the client and the scheme; may be repeated. unix trusts "
        "every client of our Unix sockets; * trusts every peer, but only for the last address in "
        "the list.",
    )
    forwarded_headers: str = setting(
        "x-forwarded",
        choices=("x-forwarded", "forwarded"),
        help="Headers that trusted proxies set: X-Forwarded-For and X-Forwarded-Proto, or Forwarded "
        "(RFC 7239). The other family is ignored: a proxy that does not set it would forward what "
        "the client sent.",
    )
    forwarded_prefix: bool = setting(
        False,
        help="Also trust X-Forwarded-Prefix, as Traefik sends it: it becomes the root path of the "
        "request, in place of root-path. Every trusted proxy must set or remove that header.",
    )
    proxy_protocol: bool = setting(
        False,
        help="Require a PROXY protocol header, version 1 or 2, at the beginning of every connection, "
        "before TLS. Connections without it, or from peers not in proxy-protocol-allow-ips, are "
        "refused.",
    )
    proxy_protocol_allow_ips: tuple[str, ...] = setting(
        (),
        value_type=PEERS,
        metavar="ADDRESS|NETWORK|unix|*",
        help="Proxies that may send a PROXY protocol header; syntax as for forwarded-allow-ips, may be "
        "repeated.",
    )


@record
class AffinitySettings:
    """Sessions that stay with one worker."""

    sticky: tuple[str, ...] = setting(
        (),
        metavar="SOURCE",
        help="Send requests of one session to one worker: cookie:NAME, header:NAME, query:NAME, path:REGEX (whose "
        "group names the session), client-ip, or cookie:@ for a cookie of the server's own. May be repeated: the "
        "first source that a request has counts. For applications that keep sessions in memory.",
    )
    sticky_drain: float = setting(
        0.0,
        minimum=0,
        help="Time for which a worker that is replaced by a reload or recycled still serves the sessions that it "
        "has, before drain-timeout begins; 0: none.",
    )
    sticky_idle: float = setting(
        300.0,
        minimum=1,
        help="Time without a request or WebSocket after which a session no longer keeps such a worker.",
    )


@record
class WebSocketSettings:
    """WebSockets."""

    ws_max_size: int = setting(
        16 * 1024 * 1024,
        value_type=BYTES,
        minimum=1,
        help="Maximum size of a message after decompression; a larger one closes the connection (1009).",
    )
    ws_queue_size: int = setting(
        16,
        minimum=1,
        help="Number of messages that may wait for the application before reading pauses. While it "
        "pauses, the client's close is not seen: an application that only sends learns of it when "
        "a message cannot be sent any more.",
    )
    ws_ping_interval: float = setting(20.0, minimum=0, help="Time between keepalive pings; 0: none.")
    ws_ping_timeout: float = setting(
        20.0, minimum=0, help="Time a client may take to answer a ping; 0: unlimited."
    )
    ws_per_message_deflate: bool = setting(True, help="Compress messages for clients that offer it.")
    ws_close_timeout: float = setting(5.0, minimum=0, help="Time a client may take to answer a close.")


@record
class LifespanSettings:
    """The application's startup and shutdown."""

    mode: str = setting(
        "auto",
        name="lifespan",
        choices=("auto", "on", "off"),
        help="Whether to run the ASGI lifespan protocol; auto detects whether the application supports it.",
    )
    startup_timeout: float = setting(
        30.0, minimum=0.1, help="Time the application's lifespan startup may take."
    )
    hook_worker_start: str = setting(
        "",
        metavar="TARGET",
        help="Function, MODULE:CALLABLE, that each worker calls after the import and before the lifespan startup; if "
        "it raises, the worker does not start. For what has no lifespan.",
    )
    hook_worker_exit: str = setting(
        "",
        metavar="TARGET",
        help="Function, MODULE:CALLABLE, that each worker calls after its last request, its lifespan shutdown and the "
        "end of its event loop. A worker that is killed does not call it.",
    )


@record
class LoopSettings:
    """The event loop."""

    implementation: str = setting(
        "uvloop", name="loop", choices=("uvloop", "asyncio"), help="The event loop of the workers."
    )


@record
class LoggingSettings:
    """Log and access log."""

    log_level: str = setting(
        "info",
        choices=("critical", "error", "warning", "info", "debug"),
        help="Minimum level of messages to log.",
    )
    log_format: str = setting(
        "auto",
        choices=("auto", "text", "json", "gcp", "datadog", "ecs"),
        help="Log format: text, JSON, or JSON with the field names that Google Cloud, Datadog or "
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
        help="Frames shown in tracebacks: app replaces those of frameworks and libraries by their number.",
    )
    access_log: bool = setting(False, help="Write an access log line for each request to standard output.")
    access_log_file: str = setting(
        "",
        value_type=PATH,
        help="Append the access log to this file (implies access-log); SIGUSR1 and SIGHUP reopen it. "
        "-: standard output.",
    )
    access_log_format: str = setting(
        "combined",
        metavar="FORMAT",
        help="Format of access log lines: combined, common, or fields such as '%(h)s %(s)s'. Not "
        "allowed if log-format is JSON.",
    )
    access_log_header: tuple[str, ...] = setting(
        (),
        metavar="NAME",
        help="Header to include in JSON access lines and records: x-tenant of requests, "
        "response:x-cache of responses; may be repeated.",
    )
    request_id_header: tuple[str, ...] = setting(
        ("x-request-id", "x-correlation-id", "traceparent"),
        metavar="NAME",
        help="Header that holds a request's id, for log and access log only; may be repeated, the "
        "first one present is used. Clients can set it freely.",
    )
    access_log_exclude: tuple[str, ...] = setting(
        (),
        metavar="PATTERN",
        help="Requests to omit from the access log: a path such as /healthz or /static/*, or user- "
        "agent:kube-probe/*; may be repeated.",
    )
    log_config: str = setting(
        "",
        value_type=PATH,
        help="File that configures Python's logging (.json, .yaml, .toml or .ini) instead of the settings here.",
    )

    @property
    def logs_requests(self) -> bool:
        """Whether the access log is enabled."""
        return self.access_log or bool(self.access_log_file)

    @property
    def access_log_path(self) -> str:
        """The file of the access log; empty if it goes to standard output, or is off."""
        return "" if self.access_log_file == "-" else self.access_log_file


@record
class ObservationSettings:
    """Health and metrics."""

    admin_bind: str = setting(
        "",
        metavar="ADDRESS",
        applies=_START,
        help="Address where the master serves /livez, /readyz, /startupz, /metrics and, at /, a status page, without "
        "authentication: HOST:PORT, [IPV6]:PORT or unix:PATH. Default: off.",
    )
    admin_actions: bool = setting(
        False,
        applies=_START,
        help="Let the holder of the token in admin-token-file reload, roll back, replace workers, scale and look at "
        "stacks at the admin address. Without TLS, the token can be read on the way: use a Unix socket, localhost, or "
        "a proxy.",
    )
    admin_token_file: str = setting(
        "",
        metavar="FILE",
        applies=_START,
        help="File with the token for admin-actions: at least 16 characters, not readable by every user. It is read at "
        "each action, so it may change.",
    )
    ready_quorum: int = setting(
        1,
        minimum=1,
        maximum=1000,
        help="Number of workers that must be ready for /readyz to succeed; values above workers count "
        "as workers.",
    )


@record
class Settings:
    """All settings, checked."""

    application: ApplicationSettings = field(
        default_factory=ApplicationSettings, metadata=group_title("Application")
    )
    process: ProcessSettings = field(default_factory=ProcessSettings, metadata=group_title("Processes"))
    services: ServiceSettings = field(default_factory=ServiceSettings, metadata=group_title("Services"))
    privileges: PrivilegeSettings = field(
        default_factory=PrivilegeSettings, metadata=group_title("Privileges")
    )
    sockets: SocketSettings = field(default_factory=SocketSettings, metadata=group_title("Sockets"))
    tls: TlsSettings = field(default_factory=TlsSettings, metadata=group_title("TLS"))
    http: HttpSettings = field(default_factory=HttpSettings, metadata=group_title("HTTP"))
    proxy: ProxySettings = field(default_factory=ProxySettings, metadata=group_title("Behind a proxy"))
    affinity: AffinitySettings = field(
        default_factory=AffinitySettings, metadata=group_title("Session affinity")
    )
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings, metadata=group_title("WebSocket"))
    lifespan: LifespanSettings = field(default_factory=LifespanSettings, metadata=group_title("Lifespan"))
    loop: LoopSettings = field(default_factory=LoopSettings, metadata=group_title("Event loop"))
    logging: LoggingSettings = field(default_factory=LoggingSettings, metadata=group_title("Logging"))
    observation: ObservationSettings = field(
        default_factory=ObservationSettings, metadata=group_title("Health and metrics")
    )
    development: DevelopmentSettings = field(
        default_factory=DevelopmentSettings, metadata=group_title("Development")
    )


SETTINGS: tuple[Setting, ...] = tuple(settings_of(Settings))
"""Every setting, in the order of the help and the reference page."""
