// Which instruction sets can be used here.
#pragma once

#include <vector>

#include "../forest/isa/forest_isa.hpp"
#include "../isa/isa.hpp"

namespace prunus {

// Those of this build that this CPU and operating system have, best first; scalar is always the last.
const std::vector<const Isa*>& usable_isas();

// The tree kernels that go with one of them.
const forest::ForestIsa& forest_isa(const Isa& isa);

// Whether this CPU runs an instruction of 512 bits as two of 256 (Zen 4), so that half a vector costs half.
bool halves_512();

}  // namespace prunus
