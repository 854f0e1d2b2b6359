package auth

import "log/slog"

// Secret is text that must not be shown. It prints, logs and marshals as
// "[redacted]"; only Reveal gives it away.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides it from fmt's %s and %v.
func (s Secret) String() string { return redacted }

// GoString hides it from fmt's %#v.
func (s Secret) GoString() string { return redacted }

// LogValue hides it from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides it from JSON, YAML and TOML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
