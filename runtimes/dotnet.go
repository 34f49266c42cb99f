package runtimes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"thaw"
)

// A .NET function is an executable assembly: a program that speaks the Runtime API by itself, which is what
// Amazon.Lambda.RuntimeSupport's LambdaBootstrap does in its Main. The handler of such a function is the assembly's name,
// after AWS's developer guide ("Define Lambda function handler in C#", executable assemblies).

// dotnetFramework is the shared framework that every .NET program needs, below the folder of `dotnet`.
const dotnetFramework = "shared/Microsoft.NETCore.App"

// assemblyName has no path in it and none of the characters of a class library's Assembly::Type::Method.
var assemblyName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.\-+ ]*$`)

// launchDotnet is Launch for .NET.
func launchDotnet(v *thaw.Version, id identifier, in *Interpreter, codeDir string) (*Launch, error) {
	if strings.Contains(v.Handler, "::") {
		return nil, thaw.Errorf(thaw.CodeInvalidParameterValue,
			"The handler %s names a method of a class library, which only AWS's own bootstrap for .NET can load. Publish the function as an executable assembly (OutputType Exe, with Amazon.Lambda.RuntimeSupport) and set the handler to the assembly's name, or publish it self-contained with the assembly name bootstrap and the runtime provided.al2023.",
			v.Handler)
	}
	l := &Launch{Version: "dotnet:" + in.Version}
	if !assemblyName.MatchString(v.Handler) {
		return l, invalidEntrypoint("The handler %q is not the name of an assembly.", v.Handler)
	}
	name := strings.TrimSuffix(v.Handler, ".dll")
	for _, file := range []string{name + ".dll", name + ".runtimeconfig.json"} {
		if !isFile(filepath.Join(codeDir, file)) {
			return l, invalidEntrypoint("%s is not in the package: an executable assembly, as `dotnet publish` leaves it, consists of %s.dll and %s.runtimeconfig.json", TaskRoot+"/"+file, name, name)
		}
	}
	l.Args = []string{in.Path, filepath.Join(TaskRoot, name+".dll")}
	l.Env = id.environ(in)
	// The collector does not see the environment's bound, and takes the machine's memory for its own. The number is in
	// hexadecimal.
	l.Env = append(l.Env, fmt.Sprintf("DOTNET_GCHeapHardLimit=%x", int64(managedHeap(v.MemorySize))<<20))
	l.RuntimeAPI = true
	if in.Prefix != "" {
		l.Binds = []Bind{{in.Prefix, in.Prefix}}
	}
	return l, nil
}

// dotnetEnviron are the variables of .NET's host, defaults that a function's own win over.
func dotnetEnviron(in *Interpreter, wanted string) []string {
	env := []string{
		"DOTNET_ROOT=" + filepath.Dir(in.Path),
		"DOTNET_EnableDiagnostics=0", // a thread, and a socket in /tmp, for debuggers that cannot come
		"DOTNET_NOLOGO=1",
	}
	if major(in.Version) != wanted {
		env = append(env, "DOTNET_ROLL_FORWARD=Major") // runtimes.nearest; .NET never rolls back
	}
	return env
}

// dotnetVersions takes the versions of the framework out of what `dotnet --list-runtimes` prints, one runtime a line:
// "Microsoft.NETCore.App 8.0.4 [/usr/share/dotnet/shared/Microsoft.NETCore.App]". They are separated by spaces.
func dotnetVersions(list string) string {
	var versions []string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == filepath.Base(dotnetFramework) {
			if version := versionPattern.FindString(fields[1]); version != "" {
				versions = append(versions, version)
			}
		}
	}
	return strings.Join(versions, " ")
}

// eachVersion makes one interpreter of each version that a `dotnet` runs.
func eachVersion(found []Interpreter) []Interpreter {
	var all []Interpreter
	for _, in := range found {
		if in.Language != "dotnet" {
			all = append(all, in)
			continue
		}
		for version := range strings.FieldsSeq(in.Version) {
			one := in
			one.Version = version
			all = append(all, one)
		}
	}
	return all
}

// versionFile is the file whose age tells that an interpreter has to be asked for its version again: for `dotnet` the
// folder of the framework, in which versions come and go while the command stays.
func versionFile(in *Interpreter) string {
	if in.Language == "dotnet" {
		folder := filepath.Join(filepath.Dir(in.Path), dotnetFramework)
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			return folder
		}
	}
	return in.Path
}
