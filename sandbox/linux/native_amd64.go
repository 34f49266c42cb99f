package linux

import _ "embed"

//go:embed native/init_amd64
var initBinary []byte
