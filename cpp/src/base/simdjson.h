// simdjson, the same in every file: where _REENTRANT is defined, as Python.h does, its parser has one member more, and
// the linker keeps one destructor for all.
#pragma once

#ifndef SIMDJSON_THREADS_ENABLED
#define SIMDJSON_THREADS_ENABLED
#endif

#include <simdjson.h>
