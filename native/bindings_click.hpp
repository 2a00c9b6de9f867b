#pragma once

#include <nanobind/nanobind.h>

void bind_click(nanobind::module_& module);
