/* The cheapest traced call there can be in CPython: a vectorcall wrapper that sets and resets a ContextVar and reads the
 * clock twice, and keeps nothing. Built by run.py; what a span costs is told in multiples of this. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <time.h>

typedef struct {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  PyObject *fn;
} Floor;

static PyObject *variable;
static volatile long long last_duration_ns;

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static PyObject *call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names) {
  PyObject *token = PyContextVar_Set(variable, self);
  if (token == NULL) return NULL;
  const long long start_ns = now_ns();
  PyObject *result = PyObject_Vectorcall(((Floor *)self)->fn, args, nargsf, names);
  last_duration_ns = now_ns() - start_ns;
  if (PyContextVar_Reset(variable, token) < 0) Py_CLEAR(result);
  Py_DECREF(token);
  return result;
}

static void dealloc(PyObject *self) {
  Py_CLEAR(((Floor *)self)->fn);
  PyObject_Free(self);
}

static PyTypeObject floor_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floor.Floor",
    .tp_basicsize = sizeof(Floor),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Floor, vectorcall),
    .tp_dealloc = dealloc,
};

static PyObject *wrap(PyObject *module, PyObject *fn) {
  (void)module;
  Floor *wrapper = PyObject_New(Floor, &floor_type);
  if (wrapper == NULL) return NULL;
  wrapper->vectorcall = call;
  wrapper->fn = Py_NewRef(fn);
  return (PyObject *)wrapper;
}

static PyMethodDef functions[] = {{"wrap", wrap, METH_O, "wrap(fn) -> callable"}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "floor", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_floor(void) {
  if (PyType_Ready(&floor_type) < 0) return NULL;
  variable = PyContextVar_New("floor", NULL);
  return PyModule_Create(&definition);
}
