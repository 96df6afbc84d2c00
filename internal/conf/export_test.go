package conf

// EncodeAll returns the text of a file with every key, secrets in clear.
func EncodeAll(c *Config) []byte { return encode(c, func(*entry) bool { return true }) }

// LocateOn is Locate on another operating system.
var LocateOn = locate

// SplitPathsOn splits a tls_cert_chain on another operating system.
var SplitPathsOn = splitPaths
