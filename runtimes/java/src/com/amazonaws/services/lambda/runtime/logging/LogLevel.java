package com.amazonaws.services.lambda.runtime.logging;

import java.util.Locale;

/** The level of a log message; UNDEFINED for messages without one. */
public enum LogLevel {
    UNDEFINED,
    TRACE,
    DEBUG,
    INFO,
    WARN,
    ERROR,
    FATAL;

    public static LogLevel fromString(String name) {
        return valueOf(name.toUpperCase(Locale.ROOT));
    }
}
