// From the bits of a bin to the masks of a column's thresholds: mask k says bin <= k.
//
// Three bits give seven masks with a few operations. Bits above them multiply: with j = k / 8, i = k % 8,
//
//     bin <= k  =  high < j  or  (high <= j and low <= i)
//
// so that each mask is one operation and one store, from values in registers: a comparison of 512 documents with a
// threshold in one instruction, where comparing their bins takes eight, and eight stores of 64 bits.

// low <= 0..6 from three planes, the highest first.
template <class B>
PRUNUS_INLINE void low_masks(typename B::Reg x, typename B::Reg y, typename B::Reg z, typename B::Reg* le) {
    const typename B::Reg y_or_z = B::or_(y, z), y_and_z = B::and_(y, z), ones = B::ones();
    le[0] = B::andnot(B::or_(x, y_or_z), ones);
    le[1] = B::andnot(B::or_(x, y), ones);
    le[2] = B::andnot(B::or_(x, y_and_z), ones);
    le[3] = B::andnot(x, ones);
    le[4] = B::andnot(B::and_(x, y_or_z), ones);
    le[5] = B::andnot(B::and_(x, y), ones);
    le[6] = B::andnot(B::and_(x, y_and_z), ones);
}

// Masks 0..count-1 of a bin with `levels` bits, whose planes stand one behind the other, the highest first.
template <class B>
PRUNUS_NOINLINE void thermometer(const char* planes, uint32_t levels, uint32_t count, char* out) {
    using R = typename B::Reg;
    R le[7];
    // As many bits first as leave a multiple of three.
    uint32_t done = (levels - 1) % 3 + 1;
    {
        const R zero = B::zeros();
        const R x = done == 3 ? B::load(planes) : zero;
        const R y = done >= 2 ? B::load(planes + (done - 2) * B::bytes) : zero;
        const R z = B::load(planes + (done - 1) * B::bytes);
        low_masks<B>(x, y, z, le);
    }
    // Masks of the bits done so far that the thresholds need: high <= j for all j that are (count - 1) / 8^rest.
    const auto needed = [&](uint32_t bits_left) {
        const uint32_t last = (count - 1) >> bits_left, all = (1u << (levels - bits_left)) - 1;
        return last < all ? last + 1 : all;
    };
    for (uint32_t k = 0, n = needed(levels - done); k < n; ++k) B::store(out + k * B::bytes, le[k]);
    for (; done < levels; done += 3) {
        const char* p = planes + done * B::bytes;
        low_masks<B>(B::load(p), B::load(p + B::bytes), B::load(p + 2 * B::bytes), le);
        const uint32_t all = (1u << done) - 1, n = needed(levels - done - 3);
        // From the last to the first, since the masks of the bits done before stand at the start of the same memory.
        const uint32_t blocks = (n + 7) / 8;
        R at = blocks - 1 < all ? B::load(out + (blocks - 1) * B::bytes) : B::ones();
        for (uint32_t j = blocks; j-- > 0;) {
            const R before = j > 0 ? B::load(out + (j - 1) * B::bytes) : B::zeros();
            char* to = out + static_cast<size_t>(j) * 8 * B::bytes;
            if (8 * j + 8 <= n) {
                PRUNUS_UNROLL
                for (uint32_t i = 0; i < 7; ++i) B::store(to + i * B::bytes, B::or_and(before, at, le[i]));
                B::store(to + 7 * B::bytes, at);
            } else {
                for (uint32_t i = 0; 8 * j + i < n; ++i)
                    B::store(to + i * B::bytes, i < 7 ? B::or_and(before, at, le[i]) : at);
            }
            at = before;
        }
    }
}
