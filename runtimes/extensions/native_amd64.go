package extensions

import _ "embed"

// launcher is built from launcher/launch.c by launcher/build.sh.
//
//go:embed launcher/launch_amd64
var launcher []byte
