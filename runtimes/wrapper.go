package runtimes

import (
	"slices"

	"thaw"
)

// wrapperVariable names a program that is started in place of a managed runtime's and is given the command line of that one (AWS,
// "Modifying the runtime environment", wrapper scripts).
const wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"

// wrapperShell starts the wrapper that follows; what it says of one that cannot be started are AWS's words.
var wrapperShell = []string{"/bin/sh", "-c", `if ! [ -f "$0" ]; then echo "$0: does not exist"; exit 127; fi
if ! [ -x "$0" ]; then echo "$0: is not an executable"; exit 126; fi
exec "$0" "$@"`}

// wrap has the version's wrapper, if it has one, start its runtime. There is then neither template nor archive: what the wrapper
// makes of variables and options would be lost in a fork, which is given its variables anew. The command line is AWS's in its form,
// with the runtime's program at the end, since wrappers put options in front of that; so that nothing can follow to have init measured.
func wrap(l *Launch, v *thaw.Version) {
	if l.Wrapper = v.Environment[wrapperVariable]; l.Wrapper == "" {
		return
	}
	l.Args = slices.Concat(wrapperShell, []string{l.Wrapper}, l.Args)
	l.TemplateArgs, l.ProfileArgs, l.ArchiveArgs, l.Archive = nil, nil, nil, ""
}
