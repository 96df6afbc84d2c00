package host

import (
	"crypto/tls"
	"log/slog"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/builtin/accounts"
	"mrci.dev/mrci/internal/cert"
	"mrci.dev/mrci/internal/conf"
	"mrci.dev/mrci/internal/conn"
	"mrci.dev/mrci/internal/hub"
	"mrci.dev/mrci/internal/registry"
	"mrci.dev/mrci/internal/session"
	"mrci.dev/mrci/wire"
)

// This file turns the configuration into what the packages below take, at the
// start and on a reload.

func policy(c *conf.Config) account.Policy {
	rule := account.RuleClasses
	if c.PasswordRule == conf.PasswordLength {
		rule = account.RuleLength
	}
	return account.Policy{AutoLockLimit: c.AutoLockLimit, InitialRank: c.InitialRank, PasswordRule: rule}
}

func hashParams(c *conf.Config) account.HashParams {
	return account.HashParams{KiB: uint32(c.Argon2KiB), Time: uint32(c.Argon2Time)}
}

func commandSettings(c *conf.Config) accounts.Settings {
	return accounts.Settings{
		AutoLockLimit: c.AutoLockLimit, AskCurrentPassword: c.AskCurrentPassword,
		VerifiedLoginOnly: c.VerifiedLoginOnly, MailUnverified: c.MailUnverified,
	}
}

func registryFlags(c *conf.Config) registry.Flags {
	return registry.Flags{PublicReg: c.EnablePublicReg, EmailVerify: c.EnableEmailVerify, PWReset: c.EnablePwReset}
}

func certConfig(c *conf.Config, log *slog.Logger) cert.Config {
	return cert.Config{
		Chain: c.TLSCertChain, Key: c.TLSPrivKey, Make: c.OwnCertificate(), Names: c.TLSNames,
		MinVersion: c.TLSMin, Log: log,
	}
}

func connConfig(c *conf.Config, tlsConfig *tls.Config, handshakes chan struct{}, input conn.Budget) *conn.Config {
	return &conn.Config{
		HeaderTimeout: c.HeaderTimeout, TLSTimeout: c.TLSTimeout, WriteTimeout: c.WriteTimeout,
		QueueBytes: c.SendQueueBytes, FrameLimit: c.PreLoginFrameBytes,
		TLS: tlsConfig, Handshakes: handshakes, TLSOnLoopback: c.TLSOnLoopback,
		Budget: input,
	}
}

func hubSettings(c *conf.Config) hub.Settings {
	return hub.Settings{AllActive: c.AllChannelsActiveUpdate, RequestsPerMin: c.P2PRequestsPerMin}
}

func sessionLimits(c *conf.Config) *session.Limits {
	l := session.DefaultLimits()
	l.Instances = c.MaxInstances
	l.AnonymousFrame = c.PreLoginFrameBytes
	l.PromptTimeout = c.PromptTimeout
	l.CastRate = c.CastRate
	// The default allows every single cast. As a rate it would hold a sender to
	// a quarter of what the host carries (docs/ARCHITECTURE.md).
	if c.CastBytes != wire.MaxPayload {
		l.CastBytes = c.CastBytes
	}
	// One cast must not end everybody who listens, as it would where a queue that
	// is empty has no room for it.
	if half := c.SendQueueBytes / 2; half < wire.MaxPayload {
		l.CastSize = half
	}
	return &l
}
