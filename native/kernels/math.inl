// Elementary functions over a vector of documents. V is the vector vocabulary of one instruction set.

// sign(x) log1p(min(|x|, 2^127)), relative error below 4e-7 over all floats (measured against float64 over every 97th
// float: see tests/test_engine_math.py).
//
//   1 + a = 2^e (1 + f),   f in [-1/3, 1/3],   log1p(a) = f P(f) + e ln 2
//
// e comes from the bits of 1 + a; f = a 2^-e + (2^-e - 1) is one fused multiply-add of exact terms, so small a keep
// their relative precision, which a later scale may need. Because 2^-127 is not a normal float, a/2 and 2^(1-e) are
// used. P is the degree-7 minimax polynomial of log1p(f)/f in relative error (Remez in 40 digits, coefficients rounded
// to float32): 1.7e-7. Degree 6 gives 1.1e-6, too much; degree 8 gives 2.6e-8, less than the rounding of the rest.
template <class V>
PRUNUS_INLINE typename V::Reg signed_log1p(typename V::Reg x) {
    using R = typename V::Reg;
    const R half = V::half_magnitude(x, 0x1p126f);
    typename V::Split parts = V::split(V::fma(half, V::splat(2.0f), V::splat(1.0f)));  // e and 2^(1-e)
    const R f = V::fma(half, parts.scale, V::fma(parts.scale, V::splat(0.5f), V::splat(-1.0f)));
    R p = V::splat(-0.15365701913833618f);
    p = V::fma(p, f, V::splat(0.1711118072271347f));
    p = V::fma(p, f, V::splat(-0.16420085728168488f));
    p = V::fma(p, f, V::splat(0.19795037806034088f));
    p = V::fma(p, f, V::splat(-0.25007620453834534f));
    p = V::fma(p, f, V::splat(0.3333798944950104f));
    p = V::fma(p, f, V::splat(-0.49999937415122986f));
    p = V::fma(p, f, V::splat(0.9999998211860657f));
    return V::with_sign(V::fma(p, f, V::mul(parts.exponent, V::splat(V::exponent_to_log))), x);
}

// 1 / (1 + exp(-x)), absolute error below 3e-7. exp(y) = 2^n exp(r), n = round(y / ln 2), r in +-ln2/2; degree-5
// minimax polynomial in relative error (7.5e-8). y is kept within +-87, where 2^n stays normal.
template <class V>
PRUNUS_INLINE typename V::Reg sigmoid(typename V::Reg x) {
    using R = typename V::Reg;
    const R y = V::max(V::min(V::sub(V::splat(0.0f), x), V::splat(87.0f)), V::splat(-87.0f));
    const typename V::Int n = V::round(V::mul(y, V::splat(1.44269504f)));
    const R whole = V::to_float(n);
    R r =
        V::fma(whole, V::splat(-0.693359375f), y);  // ln 2 in two parts: the first has 9 bits, so the product is exact
    r = V::fma(whole, V::splat(2.12194440e-4f), r);
    R p = V::splat(0.008297652937471867f);
    p = V::fma(p, r, V::splat(0.04191538318991661f));
    p = V::fma(p, r, V::splat(0.16667574644088745f));
    p = V::fma(p, r, V::splat(0.49998894333839417f));
    p = V::fma(p, r, V::splat(0.9999997019767761f));
    p = V::fma(p, r, V::splat(1.0000001192092896f));
    return V::div(V::splat(1.0f), V::add(V::splat(1.0f), V::times_power(p, n)));
}
