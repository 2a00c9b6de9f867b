// Bytes of documents in vectors of 128, 256 and 512 bits: included by avx2.cpp and avx512.inl, which compile it with
// their own instructions. Every shuffle here stays inside the 128-bit parts of a vector.
//
//   quads  four inputs of `lanes` documents: a 32-bit lane holds the four bytes of one document
//   row    one output of 4 vectors of documents: a 128-bit part holds four documents of each vector, one after another
//
// So four rows interleave to the quads of each vector, and no byte crosses its part.

#ifdef __AVX512VNNI__
constexpr uint32_t int8_halves = 1;
#else
// vpmaddubsw multiplies bytes, but saturates at 16 bits (2 * 255 * 127 does not fit). So bytes 0 and 2, and 1 and 3, of
// a quad become pairs of 16 bits, the weights when they are packed, the inputs when they are loaded: vpmaddwd is exact.
// Cycles for a quad and a vector of 256 bits on Zen 4, sums in registers: 1.6 so, 2.1 with the inputs split at bit 7
// for two exact vpmaddubsw, 1.4 with inputs stored as 16 bits (twice the memory), 1.05 with one vpmaddubsw (not exact).
constexpr uint32_t int8_halves = 2;
#endif

typedef int32_t Word __attribute__((may_alias));

struct Int8x16 {
    using Int = __m128i;
    static PRUNUS_INLINE Int zero() { return _mm_setzero_si128(); }
    static PRUNUS_INLINE Int load(const void* p) { return _mm_load_si128(static_cast<const Int*>(p)); }
    static PRUNUS_INLINE Int load_any(const void* p) { return _mm_loadu_si128(static_cast<const Int*>(p)); }
    static PRUNUS_INLINE void store(void* p, Int x) { _mm_store_si128(static_cast<Int*>(p), x); }
    static PRUNUS_INLINE Int splat_at(const void* p) { return splat(*static_cast<const Word*>(p)); }
    static PRUNUS_INLINE Int splat(int32_t x) { return _mm_set1_epi32(x); }

    // Outputs of a dense block of that many vectors.
    static constexpr int height(int) { return 8; }
    // Vectors of outputs that are summed at once for one document or four.
    static constexpr int sums_of_few(int) { return 8; }

#ifdef __AVX512VNNI__
    using Quads = Int;
    static PRUNUS_INLINE Quads quads(Int x) { return x; }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) { return _mm_dpbusd_epi32(sum, x, w); }
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t) { return splat(*p); }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t) { return load_any(p); }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[1]);
        return splat(p[0]);
    }
#else
    struct Quads {
        Int even, odd;
    };
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t odd) { return {splat(p[0]), splat(p[odd])}; }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t odd) {
        return {load_any(p), load_any(p + odd)};
    }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[2]);
        return {splat(p[0]), splat(p[1])};
    }
    static PRUNUS_INLINE Quads quads(Int x) { return {_mm_and_si128(x, splat(0x00ff00ff)), _mm_srli_epi16(x, 8)}; }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) {
        return _mm_add_epi32(sum, _mm_add_epi32(_mm_madd_epi16(x.even, w.even), _mm_madd_epi16(x.odd, w.odd)));
    }
#endif

    // Steps of four vectors, saturated to bytes, as one row.
    static PRUNUS_INLINE Int row(Int a, Int b, Int c, Int d) {
        return _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
    }
    // Steps of as many outputs as there are lanes, of four documents: four outputs of each make a quad.
    static PRUNUS_INLINE void store_quads_of_outputs(void* p, Int a, Int b, Int c, Int d) {
        _mm_storeu_si128(static_cast<Int*>(p), row(a, b, c, d));
    }
    // Steps of four inputs, saturated to bytes, as quads.
    static PRUNUS_INLINE Int quads_of(Int a, Int b, Int c, Int d) {
        const Int transpose = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm_shuffle_epi8(row(a, b, c, d), transpose);
    }
    // Rows of four inputs to the quads of the first `vectors` vectors of documents.
    template <int vectors>
    static PRUNUS_INLINE void interleave(Int a, Int b, Int c, Int d, Int* out) {
        const Int ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
        out[0] = _mm_unpacklo_epi16(ab, cd);
        if (vectors > 1) out[1] = _mm_unpackhi_epi16(ab, cd);
        const Int ab2 = _mm_unpackhi_epi8(a, b), cd2 = _mm_unpackhi_epi8(c, d);
        if (vectors > 2) out[2] = _mm_unpacklo_epi16(ab2, cd2);
        if (vectors > 3) out[3] = _mm_unpackhi_epi16(ab2, cd2);
    }
};

struct Int8x32 {
    using Int = __m256i;
    static PRUNUS_INLINE Int zero() { return _mm256_setzero_si256(); }
    static PRUNUS_INLINE Int load(const void* p) { return _mm256_load_si256(static_cast<const Int*>(p)); }
    static PRUNUS_INLINE Int load_any(const void* p) { return _mm256_loadu_si256(static_cast<const Int*>(p)); }
    static PRUNUS_INLINE void store(void* p, Int x) { _mm256_store_si256(static_cast<Int*>(p), x); }
    static PRUNUS_INLINE Int splat_at(const void* p) { return splat(*static_cast<const Word*>(p)); }
    static PRUNUS_INLINE Int splat(int32_t x) { return _mm256_set1_epi32(x); }

    // Outputs of a dense block of that many vectors.
    static constexpr int height(int vectors) { return vectors >= 3 ? 2 : vectors == 2 ? 4 : 8; }
    // Vectors of outputs that are summed at once for one document or four.
    static constexpr int sums_of_few(int documents) { return documents == 1 ? 8 : 2; }

#ifdef __AVX512VNNI__
    using Quads = Int;
    static PRUNUS_INLINE Quads quads(Int x) { return x; }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) { return _mm256_dpbusd_epi32(sum, x, w); }
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t) { return splat(*p); }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t) { return load_any(p); }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[1]);
        return splat(p[0]);
    }
#else
    struct Quads {
        Int even, odd;
    };
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t odd) { return {splat(p[0]), splat(p[odd])}; }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t odd) {
        return {load_any(p), load_any(p + odd)};
    }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[2]);
        return {splat(p[0]), splat(p[1])};
    }
    static PRUNUS_INLINE Quads quads(Int x) {
        return {_mm256_and_si256(x, splat(0x00ff00ff)), _mm256_srli_epi16(x, 8)};
    }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) {
        return _mm256_add_epi32(sum,
                                _mm256_add_epi32(_mm256_madd_epi16(x.even, w.even), _mm256_madd_epi16(x.odd, w.odd)));
    }
#endif

    // Steps of four vectors, saturated to bytes, as one row.
    static PRUNUS_INLINE Int row(Int a, Int b, Int c, Int d) {
        return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    }
    // Steps of as many outputs as there are lanes, of four documents: four outputs of each make a quad.
    static PRUNUS_INLINE void store_quads_of_outputs(void* p, Int a, Int b, Int c, Int d) {
        _mm256_storeu_si256(static_cast<Int*>(p), row(a, b, c, d));
    }
    // Steps of four inputs, saturated to bytes, as quads.
    static PRUNUS_INLINE Int quads_of(Int a, Int b, Int c, Int d) {
        const Int transpose =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        return _mm256_shuffle_epi8(row(a, b, c, d), transpose);
    }
    // Rows of four inputs to the quads of the first `vectors` vectors of documents.
    template <int vectors>
    static PRUNUS_INLINE void interleave(Int a, Int b, Int c, Int d, Int* out) {
        const Int ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
        out[0] = _mm256_unpacklo_epi16(ab, cd);
        if (vectors > 1) out[1] = _mm256_unpackhi_epi16(ab, cd);
        const Int ab2 = _mm256_unpackhi_epi8(a, b), cd2 = _mm256_unpackhi_epi8(c, d);
        if (vectors > 2) out[2] = _mm256_unpacklo_epi16(ab2, cd2);
        if (vectors > 3) out[3] = _mm256_unpackhi_epi16(ab2, cd2);
    }
};

#ifdef __AVX512F__
struct Int8x64 {
    using Int = __m512i;
    typedef uint64_t Pair __attribute__((may_alias, aligned(4)));
    static PRUNUS_INLINE Int zero() { return _mm512_setzero_si512(); }
    static PRUNUS_INLINE Int load(const void* p) { return _mm512_load_si512(p); }
    static PRUNUS_INLINE Int load_any(const void* p) { return _mm512_loadu_si512(p); }
    static PRUNUS_INLINE void store(void* p, Int x) { _mm512_store_si512(p, x); }
    static PRUNUS_INLINE Int splat_at(const void* p) { return splat(*static_cast<const Word*>(p)); }
    static PRUNUS_INLINE Int splat(int32_t x) { return _mm512_set1_epi32(x); }

    // Outputs of a dense block of that many vectors.
    static constexpr int height(int vectors) { return vectors >= 3 ? 4 : 8; }
    // Vectors of outputs that are summed at once for one document or four.
    static constexpr int sums_of_few(int documents) { return documents == 1 ? 8 : 4; }

#ifdef __AVX512VNNI__
    using Quads = Int;
    static PRUNUS_INLINE Quads quads(Int x) { return x; }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) { return _mm512_dpbusd_epi32(sum, x, w); }
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t) { return splat(*p); }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t) { return load_any(p); }
    // Through a general register, for the reason that Vec::weight gives.
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        uint64_t both = *reinterpret_cast<const Pair*>(p);
        PRUNUS_OPAQUE(both);
        offset = static_cast<uint32_t>(both >> 32);
        return splat(static_cast<int>(both));
    }
#else
    struct Quads {
        Int even, odd;
    };
    static PRUNUS_INLINE Quads weights(const int32_t* p, uint32_t odd) { return {splat(p[0]), splat(p[odd])}; }
    static PRUNUS_INLINE Quads weights_in_lanes(const int32_t* p, uint32_t odd) {
        return {load_any(p), load_any(p + odd)};
    }
    static PRUNUS_INLINE Quads block(const int32_t* p, uint32_t& offset) {
        offset = static_cast<uint32_t>(p[2]);
        return {splat(p[0]), splat(p[1])};
    }
    static PRUNUS_INLINE Quads quads(Int x) {
        return {_mm512_and_si512(x, splat(0x00ff00ff)), _mm512_srli_epi16(x, 8)};
    }
    static PRUNUS_INLINE Int dot(Int sum, Quads x, Quads w) {
        return _mm512_add_epi32(sum,
                                _mm512_add_epi32(_mm512_madd_epi16(x.even, w.even), _mm512_madd_epi16(x.odd, w.odd)));
    }
#endif

    // Steps of four vectors, saturated to bytes, as one row.
    static PRUNUS_INLINE Int row(Int a, Int b, Int c, Int d) {
        return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    }
    // Steps of as many outputs as there are lanes, of four documents: four outputs of each make a quad.
    static PRUNUS_INLINE void store_quads_of_outputs(void* p, Int a, Int b, Int c, Int d) {
        _mm512_storeu_si512(p, row(a, b, c, d));
    }
    // Steps of four inputs, saturated to bytes, as quads.
    static PRUNUS_INLINE Int quads_of(Int a, Int b, Int c, Int d) {
        const Int transpose =
            _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        return _mm512_shuffle_epi8(row(a, b, c, d), transpose);
    }
    // Rows of four inputs to the quads of the first `vectors` vectors of documents.
    template <int vectors>
    static PRUNUS_INLINE void interleave(Int a, Int b, Int c, Int d, Int* out) {
        const Int ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
        out[0] = _mm512_unpacklo_epi16(ab, cd);
        if (vectors > 1) out[1] = _mm512_unpackhi_epi16(ab, cd);
        const Int ab2 = _mm512_unpackhi_epi8(a, b), cd2 = _mm512_unpackhi_epi8(c, d);
        if (vectors > 2) out[2] = _mm512_unpacklo_epi16(ab2, cd2);
        if (vectors > 3) out[3] = _mm512_unpackhi_epi16(ab2, cd2);
    }
};
#endif
