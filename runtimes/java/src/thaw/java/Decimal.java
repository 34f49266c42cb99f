package thaw.java;

import java.math.BigDecimal;

/** A JSON number with a fraction or exponent, still as text: BigDecimal, with its exactness, takes 30 ms to load. */
final class Decimal extends Number {
    private static final long serialVersionUID = 1L;

    private final String text;

    Decimal(String text) {
        this.text = text;
    }

    BigDecimal exact() {
        return new BigDecimal(text);
    }

    @Override
    public double doubleValue() {
        return Double.parseDouble(text);
    }

    @Override
    public float floatValue() {
        return Float.parseFloat(text);
    }

    @Override
    public long longValue() {
        return exact().longValue();
    }

    @Override
    public int intValue() {
        return exact().intValue();
    }

    @Override
    public String toString() {
        return text;
    }
}
