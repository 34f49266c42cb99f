// Package extensions is the host's side of the extensions of one environment, as AWS Lambda has them: the Extensions API
// (2020-01-01/extension), the Telemetry API (2022-07-01/telemetry) and the Logs API (2020-08-15/logs), the program that
// starts what is in /opt/extensions, and the delivery of telemetry to listeners inside the sandbox. Names, states, limits
// and texts are those of AWS's developer guide ("Lambda Extensions API", "Lambda Telemetry API") and of AWS's runtime
// interface emulator.
package extensions
