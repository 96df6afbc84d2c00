// Package module is how commands are written: a Command describes one command
// (name, arguments, texts, hints) and holds the function that runs it. The
// host's own commands and commands of modules are written the same way; the
// text that clients build help and forms from (IOText), the JSON Schema and
// the checks of arguments all come from the one description.
//
// A command's function gets a context and a Call. It answers through the Call
// (Text, Send, Async), asks through it (Prompt, Secret, Confirm,
// Receive), and returns: nil ends the call with NO_ERRORS, an error made by
// Fail with its text and code, ErrAborted and an ended context with ABORTED,
// any other error with EXECUTION_FAIL and a message id, the error itself going
// to the host's log alone. The context ends when the client sends TERM_CMD or
// KILL_CMD, when the command is taken away, and when the session ends. Long
// loops call Checkpoint, where they are paused and stopped. TERM_CMD stands in
// line behind frames that the client has sent before it: a command that is sent
// frames and neither receives them nor calls Checkpoint is stopped by KILL_CMD
// alone.
//
// An answer to Secret is bytes that stand nowhere else in the host's memory. A
// command clears them when it has used them.
//
// The package knows nothing of how a command is run: that is behind Runtime,
// which the host implements. A Call may be used from several goroutines of the
// command until its function returns.
//
// Behaviour is specified in the project's commands page, section 1, and in the
// modules page, section 3.
package module
