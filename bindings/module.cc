// The extension module spanbox._core: puts the parts together.
#include <pybind11/pybind11.h>

#include "capture_settings.h"
#include "casters.h"
#include "limits.h"
#include "query.h"
#include "recording.h"
#include "redaction.h"
#include "text_stage.h"

PYBIND11_MODULE(_core, module) {
  module.attr("__version__") = SPANBOX_VERSION;
  spanbox::python::RegisterExceptions(module);
  if (spanbox::python::RegisterContext(module.ptr()) < 0 || spanbox::python::RegisterCarried(module.ptr()) < 0 ||
      spanbox::python::RegisterSpans(module.ptr()) < 0 || spanbox::python::RegisterObserved(module.ptr()) < 0 ||
      spanbox::python::RegisterDriven(module.ptr()) < 0 || spanbox::python::RegisterCapture(module.ptr()) < 0 ||
      spanbox::python::RegisterScores(module.ptr()) < 0 || spanbox::python::RegisterTracer(module.ptr()) < 0 ||
      spanbox::python::RegisterOtelContext(module.ptr()) < 0 || spanbox::python::RegisterLimits(module.ptr()) < 0) {
    throw pybind11::error_already_set();
  }
  spanbox::python::RegisterRedaction(module);
  spanbox::python::RegisterStage(module);
  spanbox::python::RegisterRecording(module);
  spanbox::python::RegisterTable(module);
  spanbox::python::RegisterStore(module);
  spanbox::python::RegisterIngest(module);
  spanbox::python::RegisterHandOver(module);
}
