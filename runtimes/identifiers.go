package runtimes

import (
	"slices"
	"strings"
)

// identifiers are AWS's runtime identifiers, after the Lambda API's Runtime enumeration.
var identifiers = []string{
	"nodejs", "nodejs4.3", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x", "nodejs18.x",
	"nodejs20.x", "nodejs22.x", "nodejs24.x", "nodejs26.x", "nodejs4.3-edge",
	"java8", "java8.al2", "java8.al2023", "java11", "java11.al2023", "java17", "java17.al2023", "java21", "java25",
	"python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13",
	"python3.14", "python3.15",
	"dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "dotnet6", "dotnet8", "dotnet10",
	"ruby2.5", "ruby2.7", "ruby3.2", "ruby3.3", "ruby3.4", "ruby4.0",
	"go1.x", "provided", "provided.al2", "provided.al2023",
}

// identifier is a runtime identifier taken apart.
type identifier struct {
	name     string
	language string // python, nodejs, ruby, go, provided, java, dotnet
	version  string // "3.11"; "20" for nodejs20.x; "al2023"
}

func parseIdentifier(name string) (identifier, bool) {
	if !slices.Contains(identifiers, name) {
		return identifier{}, false
	}
	for _, language := range []string{"python", "nodejs", "ruby", "java", "dotnet", "go", "provided"} {
		if version, ok := strings.CutPrefix(name, language); ok {
			version = strings.TrimSuffix(strings.TrimPrefix(version, "."), ".x")
			if language == "java" {
				version, _, _ = strings.Cut(version, ".") // what follows names the operating system
			}
			version = strings.TrimPrefix(version, "core") // dotnetcore3.1
			return identifier{name, language, version}, true
		}
	}
	return identifier{}, false
}

// matches reports whether an interpreter of the full version ("3.11.2") is what the identifier asks for.
func (id identifier) matches(version string) bool {
	return version == id.version || strings.HasPrefix(version, id.version+".")
}

// environ holds the variables that AWS sets for the identifier's language.
func (id identifier) environ(in *Interpreter) []string {
	switch id.language {
	case "python":
		return []string{"PYTHONPATH=" + RuntimeDir}
	case "nodejs":
		major, _, _ := strings.Cut(in.Version, ".")
		return []string{"NODE_PATH=/opt/nodejs/node" + major + "/node_modules:/opt/nodejs/node_modules:" + RuntimeDir + "/node_modules"}
	case "ruby":
		// Gems are laid out by the version of the library interface, whose last part is always zero.
		abi := strings.Join(append(strings.Split(in.Version, ".")[:2], "0"), ".")
		return []string{
			"GEM_PATH=" + TaskRoot + "/vendor/bundle/ruby/" + abi + ":/opt/ruby/gems/" + abi,
			"RUBYLIB=" + TaskRoot + ":" + RuntimeDir + "/lib:/opt/ruby/lib",
			// Ruby takes the encoding of the environment and of files from the locale, and the one that LANG names, as on
			// AWS, need not be installed. The bootstrap hides this from the function.
			"LC_CTYPE=C.UTF-8",
		}
	case "java":
		// As for Ruby; Java takes none of the locale when one part of it is not installed.
		return []string{"LC_ALL=C.UTF-8"}
	case "dotnet":
		return dotnetEnviron(in, id.version)
	}
	return nil
}
