#pragma once

#include <nanobind/nanobind.h>

void bind_recommend(nanobind::module_& module);
