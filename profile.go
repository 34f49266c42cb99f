package thaw

import "time"

// InitProfile is what one init spent its time on, measured in the init itself.
type InitProfile struct {
	// ID is that of the environment or of the template whose init it was; Invocation.ProfileID refers to it.
	ID         string    `json:"id"`
	Function   string    `json:"function"`
	Version    string    `json:"function_version"`
	Generation uint64    `json:"generation"`
	Runtime    string    `json:"runtime"`
	At         time.Time `json:"at"` // when init began
	// Length is the whole init, from the runtime being up to the user's module being ready.
	Length time.Duration `json:"length_ns"`
	// Modules in the order in which their loading began, so that a parent stands before what it loads.
	Modules     []Module     `json:"modules,omitempty"`
	Connections []Connection `json:"connections,omitempty"`
	// Dropped counts modules and connections that a bound left out.
	Dropped int `json:"dropped,omitempty"`
}

// Kinds of modules.
const (
	ModuleImport  = "import"        // Python's import, Ruby's require
	ModuleRequire = "require"       // a CommonJS module of Node
	ModuleESM     = "esm"           // an ES module of Node
	ModuleClasses = "class package" // a Java package with the classes that were loaded of it
)

// Module is one module that init loaded.
type Module struct {
	Name string `json:"name"`
	// Parent is the index of the module that loaded it, -1: none, or it is not known.
	Parent int    `json:"parent"`
	Kind   string `json:"kind"`             // one of the Module constants
	Failed bool   `json:"failed,omitempty"` // it could not be loaded: not found, or its code threw
	File   string `json:"file,omitempty"`   // as the function sees it, empty for what is built in
	Bytes  int64  `json:"bytes,omitempty"`
	Count  int    `json:"count,omitempty"` // of a package, the classes that were loaded
	// Start is counted from init's begin. Self is the time of the module's own code, Total with all that it loaded.
	Start time.Duration `json:"start_ns"`
	Self  time.Duration `json:"self_ns"`
	Total time.Duration `json:"total_ns"`
}

// Connection is one that init opened, or tried to.
type Connection struct {
	Host    string `json:"host,omitempty"`    // as the function named it
	Address string `json:"address,omitempty"` // ip:port
	// Start is counted from init's begin; the others are zero where that step was not taken or cannot be told apart.
	Start time.Duration `json:"start_ns"`
	DNS   time.Duration `json:"dns_ns,omitempty"`
	TCP   time.Duration `json:"tcp_ns,omitempty"`
	TLS   time.Duration `json:"tls_ns,omitempty"`
	// Module is the index of the module during whose loading it was opened, -1: not known.
	Module int    `json:"module"`
	Error  string `json:"error,omitempty"`
}
