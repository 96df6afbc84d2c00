// Package e2e tests the program from outside: the tests build cmd/mrci, start
// it as processes and look at what a user sees. It has no code of its own.
//
// The scripts in testdata read like the manual (go doc
// github.com/rogpeppe/go-internal/testscript), with four verbs beside the usual
// ones:
//
//	[!] host start [OPTIONS]   start a host below $dir and wait for its listening line;
//	                           sets $addr, $port, $user, $password, $fingerprint
//	host stop [SIGNAL]         TERM, INT or KILL; waits for the end, which must be 0 but for KILL
//	host pause, host resume    hold the whole process
//	[!] mrci [<FILE] ARGS      run the program, with FILE as standard input
//	[!] expect FILE ARGS       run the program and talk to it: "> LINE" is typed,
//	                           "< REGEXP" is waited for, the end of FILE is the end of the input
//	status N                   the exit status of the last one
//	unprivileged               what follows runs without rights, also when root runs the test;
//	                           only where the condition [unprivileged] holds
//
// testdata/supervise.sh is a supervisor as small as can be, for the test that kills the host under it.
//
// Nothing waits by the clock, nothing outside the test's own directories is
// written, and no network is used but loopback. The test of two networks makes
// its own namespaces. With -short the slow ones are skipped and say so.
package e2e
