//! systemd's expansion of variables in Exec lines.
