package com.amazonaws.services.lambda.runtime.logging;

import java.util.Locale;

/** How log messages are laid out. */
public enum LogFormat {
    JSON,
    TEXT;

    public static LogFormat fromString(String name) {
        return name == null ? TEXT : valueOf(name.toUpperCase(Locale.ROOT));
    }
}
