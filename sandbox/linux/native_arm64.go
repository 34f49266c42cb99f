package linux

import _ "embed"

//go:embed native/init_arm64
var initBinary []byte
