"""Sets a process's title and its identity in log lines."""

from asgi_master.settings.model import Settings
from asgi_master.telemetry import logs, titles


def configure_process_identity(
    role: str,
    settings: Settings,
    *,
    worker: int | None = None,
    generation: int | None = None,
    service: str | None = None,
) -> None:
    """Set title and log of this process from the settings. Raises `SettingsError` if the log cannot be configured."""
    name = settings.process.name or settings.application.app
    titles.set_title(
        role, worker=worker if service is None else service, generation=generation, application=name
    )
    logs.configure(
        role,
        level=settings.logging.log_level,
        format=settings.logging.log_format,
        log_config=settings.logging.log_config,
        traceback=settings.logging.traceback,
        zone=settings.logging.log_timezone,
        request_ids=settings.logging.request_id_header,
        worker=worker,
        generation=generation,
        service=service,
    )
