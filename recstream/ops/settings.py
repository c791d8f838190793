"""The base of every settings class: frozen, from the environment, secrets also from files."""

import os
import sys
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads `NAME` from the file that `NAME_FILE` names, as container platforms mount secrets.

    A trailing newline is not part of the secret. Raises OSError where the named file cannot be read.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the field's value from its file, or None where no file is named."""
        prefix = self.config.get("env_prefix") or ""
        path = os.environ.get(f"{prefix}{field_name}_FILE".upper())
        value = Path(path).read_text(encoding="utf-8").rstrip("\r\n") if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of all fields that have a file."""
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class ServiceSettings(BaseSettings):
    """Base class: immutable, unknown variables ignored, `NAME` before `NAME_FILE` before the default.

    A subclass sets `env_prefix`; the variable of a field is the prefix and the field's name in capitals.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def load(cls) -> Self:
        """Return the settings of the environment; end the process with a sentence for each that is wrong.

        For `__main__` modules. Elsewhere the constructor itself raises pydantic's ValidationError.
        """
        try:
            return cls()
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix") or ""
            for found in error.errors(include_input=False, include_url=False):
                name = f"{prefix}{'_'.join(str(part) for part in found['loc'])}".upper()
                print(f"The setting {name} is not usable: {found['msg']}.", file=sys.stderr)
        except OSError as error:
            print(f"A settings file cannot be read: {error}.", file=sys.stderr)
        sys.exit(2)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then secret files."""
        return init_settings, env_settings, SecretFileSource(settings_cls)
