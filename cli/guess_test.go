package cli

import (
	"errors"
	"testing"
	"testing/fstest"
)

func TestGuess(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	python := file(pythonHandler)
	cases := []struct {
		name     string
		files    fstest.MapFS
		runtimes []string
		want     guess
	}{
		{"python", fstest.MapFS{"app.py": python}, nil, guess{"python3.11", "app.handler"}},
		{"python, AWS's default names", fstest.MapFS{"lambda_function.py": file("import os\ndef lambda_handler(e, c):\n  pass\n"), "app.py": python}, nil, guess{"python3.11", "lambda_function.lambda_handler"}},
		{"python, the newest there is", fstest.MapFS{"x.py": python}, []string{"python3.9", "python3.13", "python3.2", "ruby3.4"}, guess{"python3.13", "x.handler"}},
		{"python, helper without handler first", fstest.MapFS{"app.py": file("x = 1\n"), "zed.py": python}, nil, guess{"python3.11", "zed.handler"}},
		{"python, handler as a value", fstest.MapFS{"app.py": file("handler = wrap(f)\n")}, nil, guess{"python3.11", "app.handler"}},
		{"node, module", fstest.MapFS{"index.mjs": file("export const handler = async (e) => e;\n")}, nil, guess{"nodejs20.x", "index.handler"}},
		{"node, function", fstest.MapFS{"index.mjs": file("export async function handler(e) {}\n")}, nil, guess{"nodejs20.x", "index.handler"}},
		{"node, list", fstest.MapFS{"index.mjs": file("const handler = 1;\nexport { handler };\n")}, nil, guess{"nodejs20.x", "index.handler"}},
		{"node, commonjs", fstest.MapFS{"index.js": file("exports.handler = async () => 1;\n")}, []string{"nodejs18.x", "nodejs22.x"}, guess{"nodejs22.x", "index.handler"}},
		{"node, commonjs object", fstest.MapFS{"app.cjs": file("module.exports = {\n  other, handler,\n};\n")}, nil, guess{"nodejs20.x", "app.handler"}},
		{"node, main in package.json", fstest.MapFS{"package.json": file(`{"main":"./src/fn.js"}`), "src/fn.js": file("exports.handler = 1\n"), "tool.py": python}, nil, guess{"nodejs20.x", "src/fn.handler"}},
		{"node, main is gone", fstest.MapFS{"package.json": file(`{"main":"gone.js"}`), "index.js": file("exports.handler = 1\n")}, nil, guess{"nodejs20.x", "index.handler"}},
		{"node, main leads out", fstest.MapFS{"package.json": file(`{"main":"../x.js"}`), "index.js": file("exports.handler = 1\n")}, nil, guess{"nodejs20.x", "index.handler"}},
		{"ruby", fstest.MapFS{"app.rb": file("def handler(event:, context:)\nend\n")}, nil, guess{"ruby3.2", "app.handler"}},
		{"binary", fstest.MapFS{"bootstrap": file("\x7fELF"), "app.py": python}, nil, guess{"provided.al2023", "bootstrap"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := guessFrom(c.files, c.runtimes)
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
	for name, files := range map[string]fstest.MapFS{
		"nothing": {}, "text": {"README": file("x")}, "no handler": {"app.py": file("# def handler(\n")}, "only below": {"lib/app.py": python},
	} {
		if got, err := guessFrom(files, nil); !errors.Is(err, errNoGuess) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := guessFrom(fstest.MapFS{"package.json": file("{")}, nil); err == nil {
		t.Error("a broken package.json was taken")
	}
}
