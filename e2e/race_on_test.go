//go:build race

package e2e_test

// raceEnabled makes the program under test watch for races too.
const raceEnabled = true
