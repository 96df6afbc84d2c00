// Package accounts has the built-in commands about accounts: logging in and
// out, one's own account, and the accounts of others (commands 2 and 3).
//
// It asks and answers; the rules are those of package account.
package accounts
