// Package mail fills a template with what one mail says and sends it, by SMTP
// or through the command line that the administrator configured.
//
// A Mailer is what the host holds. Send waits for the result; a few are on their
// way at once, and others wait for them. Close lets them leave until its context
// ends. A changed configuration is a new Mailer. Who may have a mail, and how
// many, is left to the callers.
//
// What users typed is data and stays data. Line ends and control characters in
// an address, a subject or a name are refused with a *FieldError, templates
// insert each value once, and a command gets values as whole arguments, on its
// standard input or, for a shell, in the environment: never as shell text.
// Errors and logs have neither bodies nor codes, and addresses only masked.
//
// Templates, senders and the Mailer are safe for concurrent use. See state 5.
package mail
