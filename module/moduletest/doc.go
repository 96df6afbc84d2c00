// Package moduletest drives one call of a command with a scripted client, and
// no host: the test starts the call, says frame by frame what must come out,
// answers prompts, sends TERM_CMD, KILL_CMD, YIELD_CMD and RESUME_CMD, and
// names the code with which the call ends.
//
// It is strict: a frame that the script does not name, input that the command
// has not taken, and a call that the script has not ended all fail the test. So
// does a command that does nothing for ten seconds while the script waits for
// it, or that does not end when its context has. In a bubble of
// testing/synctest that time is the bubble's, and commands with pauses of their
// own are tested at once.
//
// Control frames do what they do in a host (commands 1.5): TERM_CMD takes
// effect behind the frames that were sent before it, at the next Checkpoint, or
// at once at a prompt and while paused; KILL_CMD at once; YIELD_CMD pauses at
// the next Checkpoint and does nothing at a prompt. What the host adds, message
// ids and log lines for errors that are not for clients, is not there: such an
// error is in Result.Err.
//
// An inline command is not let wait. When it returns module.ErrMustWait it is run
// again, and may; Result.Again tells so. It fails if it has sent something
// before, or changed its input.
//
// The methods of a Call belong to the test's goroutine, because they end the
// test when something is wrong. The command runs on a goroutine of its own,
// which has ended when the test has.
package moduletest
