// Elementary functions over a vector of documents. V is the vector vocabulary of one instruction set.

// The polynomial of log1p below in natural units, the highest power first.
constexpr float log1p_natural[8] = {-0.0006002227310091257f, 0.0013368109939619899f, -0.002565638395026326f,
                                    0.0061859493143856525f,  -0.015629762783646584f, 0.0416724868118763f,
                                    -0.12499984353780746f,   0.49999991059303284f};

constexpr float log1p_term(int i) {
    return static_cast<float>(log1p_natural[i] / log_unit);
}

// sign(x) log1p(min(|x|, 2^127)) in log_units, relative error below 4e-7 over all floats (measured against float64 over
// every 97th float: see tests/test_engine_math.py).
//
//   1 + a = 2^e (1 + g/2),   g in [-2/3, 2/3],   log1p(a) = g P(g) + e ln 2
//
// e comes from the bits of 1 + a, and stays there, times 2^23: so e ln 2 is a whole number of log_units, and costs no
// multiplication (9 % of the input stage on Zen 4); g = a 2^(1-e) + (2^(1-e) - 2) is one fused multiply-add of exact
// terms, so small a keep their relative precision, which a later scale may need. 2^(1-e) and not 2^-e, because 2^-127
// is not a normal float. P is the degree-7 minimax polynomial of log1p(f)/f, f = g/2, in relative error (Remez in 40
// digits, coefficients rounded to float32): 1.7e-7. Degree 6 gives 1.1e-6, too much; degree 8 gives 2.6e-8, less than
// the rounding of the rest.
//
// Works on N vectors step by step, not vector by vector: a step's N instructions do not wait for each other, and the
// scheduler of the CPU is too small to find that out from N long chains (7 % on Zen 4). `a` is |x| as it was used: at
// 2^127 where x is NaN, infinite or larger.
template <class V, int N>
PRUNUS_INLINE void signed_log1p(const typename V::Reg* x, typename V::Reg* a, typename V::Reg* out) {
    using R = typename V::Reg;
    R g[N], exponent[N], p[N];
    PRUNUS_UNROLL
    for (int i = 0; i < N; ++i) a[i] = V::magnitude(x[i], 0x1p127f);
    PRUNUS_UNROLL
    for (int i = 0; i < N; ++i) g[i] = V::add(a[i], V::splat(1.0f));
    PRUNUS_UNROLL
    for (int i = 0; i < N; ++i) {
        const typename V::Split parts = V::split(g[i]);  // e and 2^(1-e)
        g[i] = V::fma(a[i], parts.scale, V::sub(parts.scale, V::splat(2.0f)));
        exponent[i] = parts.exponent;
    }
    PRUNUS_UNROLL
    for (int i = 0; i < N; ++i) p[i] = V::splat(log1p_term(0));
    PRUNUS_UNROLL
    for (int term = 1; term < 8; ++term) {
        PRUNUS_UNROLL
        for (int i = 0; i < N; ++i) p[i] = V::fma(p[i], g[i], V::splat(log1p_term(term)));
    }
    PRUNUS_UNROLL
    for (int i = 0; i < N; ++i) out[i] = V::with_sign(V::fma(p[i], g[i], exponent[i]), x[i]);
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
