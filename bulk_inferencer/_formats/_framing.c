/* TFRecord files: cuts their content into records, and frames records, both with checksums.

   The same as the functions of `tfrecord.py`, byte for byte, several times faster, and without
   Python's lock for all but the making of Python objects.
   Source of the format:
   https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define LENGTH_BYTES 8
#define CHECKSUM_BYTES 4
#define HEADER_BYTES (LENGTH_BYTES + CHECKSUM_BYTES)
#define FRAME_BYTES (HEADER_BYTES + CHECKSUM_BYTES)

/* What ends the records of a buffer; `tfrecord.py` has the words for it. */
enum damage { NO_DAMAGE, BAD_LENGTH, BAD_RECORD, TOO_LONG };

/* CRC-32C (RFC 3720, appendix B.4), before it is masked. */

static uint32_t table[8][256];

static void fill_table(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
    table[0][byte] = crc;
  }
  for (int row = 1; row < 8; row++)
    for (int byte = 0; byte < 256; byte++)
      table[row][byte] = (table[row - 1][byte] >> 8) ^ table[0][table[row - 1][byte] & 0xFF];
}

static uint32_t load32(const unsigned char *from) {
  return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
         (uint32_t)from[3] << 24;
}

static uint64_t load64(const unsigned char *from) {
  return (uint64_t)load32(from) | (uint64_t)load32(from + 4) << 32;
}

static void store32(unsigned char *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t extend_by_table(uint32_t crc, const unsigned char *data, size_t count) {
  for (; count >= 8; data += 8, count -= 8) {
    uint32_t low = crc ^ load32(data), high = load32(data + 4);
    crc = table[7][low & 0xFF] ^ table[6][(low >> 8) & 0xFF] ^ table[5][(low >> 16) & 0xFF] ^
          table[4][low >> 24] ^ table[3][high & 0xFF] ^ table[2][(high >> 8) & 0xFF] ^
          table[1][(high >> 16) & 0xFF] ^ table[0][high >> 24];
  }
  while (count--) crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
#define HAS_INSTRUCTION
__attribute__((target("sse4.2"))) static uint32_t extend_by_instruction(
    uint32_t crc, const unsigned char *data, size_t count) {
  uint64_t wide = crc;
  for (; count >= 8; data += 8, count -= 8) wide = _mm_crc32_u64(wide, load64(data));
  crc = (uint32_t)wide;
  while (count--) crc = _mm_crc32_u8(crc, *data++);
  return crc;
}
static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__linux__)
#define HAS_INSTRUCTION
__attribute__((target("+crc"))) static uint32_t extend_by_instruction(
    uint32_t crc, const unsigned char *data, size_t count) {
  for (; count >= 8; data += 8, count -= 8) crc = __crc32cd(crc, load64(data));
  while (count--) crc = __crc32cb(crc, *data++);
  return crc;
}
static int has_instruction(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#endif

static uint32_t (*extend)(uint32_t, const unsigned char *, size_t) = extend_by_table;

static void choose_extend(int by_instruction) {
  extend = extend_by_table;
#ifdef HAS_INSTRUCTION
  if (by_instruction && has_instruction()) extend = extend_by_instruction;
#else
  (void)by_instruction;
#endif
}

/* Checksums are rotated and moved, since the CRC of what holds its own CRC says little. */
static uint32_t masked(uint32_t crc) {
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

/* Cuts */

typedef struct {
  size_t start, length;
} Span;

typedef struct {
  Span *spans; /* of whole records, up to the first damage */
  size_t count;
  size_t end;        /* where the last of them ends */
  uint64_t missing;  /* how many bytes the next one lacks, at least */
  enum damage damage; /* of the next one */
  uint64_t length;    /* of the next one, if it is too long */
} Cut;

static int append(Cut *cut, size_t *room, Span span) {
  if (cut->count == *room) {
    size_t more = *room ? 2 * *room : 1024;
    Span *moved = realloc(cut->spans, more * sizeof(Span));
    if (!moved) return -1;
    cut->spans = moved;
    *room = more;
  }
  cut->spans[cut->count++] = span;
  return 0;
}

/* Needs no lock. Returns -1 without memory. */
static int cut_into(Cut *cut, const unsigned char *buffer, size_t size, uint64_t most) {
  size_t room = 0;
  cut->missing = 1;
  while (size - cut->end >= HEADER_BYTES) {
    const unsigned char *header = buffer + cut->end;
    size_t left = size - cut->end - HEADER_BYTES;
    uint64_t length = load64(header);
    if (load32(header + LENGTH_BYTES) != masked(extend(~0u, header, LENGTH_BYTES))) {
      cut->damage = BAD_LENGTH;
      return 0;
    }
    if (left < CHECKSUM_BYTES || length > left - CHECKSUM_BYTES) {
      if (length > most) {
        cut->damage = TOO_LONG;
        cut->length = length;
      } else {
        cut->missing = length + CHECKSUM_BYTES - left;
      }
      return 0;
    }
    const unsigned char *record = header + HEADER_BYTES;
    if (load32(record + length) != masked(extend(~0u, record, (size_t)length))) {
      cut->damage = BAD_RECORD;
      return 0;
    }
    if (length > most) {
      cut->damage = TOO_LONG;
      cut->length = length;
      return 0;
    }
    if (append(cut, &room, (Span){cut->end + HEADER_BYTES, (size_t)length})) return -1;
    cut->end += FRAME_BYTES + (size_t)length;
  }
  return 0;
}

static PyObject *records_of(const Cut *cut, const char *buffer) {
  PyObject *records = PyList_New((Py_ssize_t)cut->count);
  if (!records) return NULL;
  for (size_t i = 0; i < cut->count; i++) {
    const Span *own = cut->spans + i;
    PyObject *record = PyBytes_FromStringAndSize(buffer + own->start, (Py_ssize_t)own->length);
    if (!record || PyList_SetItem(records, (Py_ssize_t)i, record)) {
      Py_DECREF(records);
      return NULL;
    }
  }
  return records;
}

static PyObject *py_cut(PyObject *module, PyObject *args) {
  PyObject *bytes;
  unsigned long long most;
  char *buffer;
  Py_ssize_t size;
  Cut cut = {0};
  (void)module;
  if (!PyArg_ParseTuple(args, "O!K:cut", &PyBytes_Type, &bytes, &most)) return NULL;
  if (PyBytes_AsStringAndSize(bytes, &buffer, &size)) return NULL;
  int failed;
  Py_BEGIN_ALLOW_THREADS
  failed = cut_into(&cut, (const unsigned char *)buffer, (size_t)size, most);
  Py_END_ALLOW_THREADS
  PyObject *records = failed ? PyErr_NoMemory() : records_of(&cut, buffer);
  free(cut.spans);
  if (!records) return NULL;
  return Py_BuildValue("NnKiK", records, (Py_ssize_t)cut.end, (unsigned long long)cut.missing,
                       (int)cut.damage, (unsigned long long)cut.length);
}

/* Frames */

typedef struct {
  const unsigned char *data;
  size_t size;
} Piece;

/* Needs no lock. The pieces of each record follow each other. */
static void frame_into(unsigned char *to, const Piece *piece, size_t records, size_t parts) {
  for (size_t i = 0; i < records; i++) {
    unsigned char *header = to;
    to += HEADER_BYTES;
    uint64_t length = 0;
    for (size_t part = 0; part < parts; part++, piece++) {
      memcpy(to, piece->data, piece->size);
      to += piece->size;
      length += piece->size;
    }
    for (int byte = 0; byte < LENGTH_BYTES; byte++)
      header[byte] = (unsigned char)(length >> (8 * byte));
    store32(header + LENGTH_BYTES, masked(extend(~0u, header, LENGTH_BYTES)));
    store32(to, masked(extend(~0u, header + HEADER_BYTES, (size_t)length)));
    to += CHECKSUM_BYTES;
  }
}

/* Gathers the pieces of `columns`, a tuple of tuples of bytes; returns the size of all frames, or
   -1 with an error set. */
static Py_ssize_t gather(PyObject *columns, Py_ssize_t parts, Py_ssize_t records, Piece *pieces) {
  if (records > PY_SSIZE_T_MAX / FRAME_BYTES) {
    PyErr_NoMemory();
    return -1;
  }
  Py_ssize_t total = records * FRAME_BYTES;
  for (Py_ssize_t part = 0; part < parts; part++) {
    PyObject *column = PyTuple_GetItem(columns, part);
    for (Py_ssize_t i = 0; i < records; i++) {
      char *data;
      Py_ssize_t size;
      if (PyBytes_AsStringAndSize(PyTuple_GetItem(column, i), &data, &size)) return -1;
      if (size > PY_SSIZE_T_MAX - total) {
        PyErr_NoMemory();
        return -1;
      }
      total += size;
      pieces[i * parts + part] = (Piece){(const unsigned char *)data, (size_t)size};
    }
  }
  return total;
}

static PyObject *framed(PyObject *columns, Py_ssize_t parts, Py_ssize_t records) {
  if (records && parts > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(Piece) / records)
    return PyErr_NoMemory();
  Piece *pieces = malloc((size_t)(records * parts) * sizeof(Piece) + 1);
  if (!pieces) return PyErr_NoMemory();
  PyObject *result = NULL;
  Py_ssize_t size = gather(columns, parts, records, pieces);
  if (size >= 0 && (result = PyBytes_FromStringAndSize(NULL, size))) {
    unsigned char *to = (unsigned char *)PyBytes_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    frame_into(to, pieces, (size_t)records, (size_t)parts);
    Py_END_ALLOW_THREADS
  }
  free(pieces);
  return result;
}

static PyObject *py_frame(PyObject *module, PyObject *args) {
  (void)module;
  /* Tuples keep all bytes alive and in their places while the lock is free. */
  Py_ssize_t parts = PyTuple_Size(args), records = 0;
  PyObject *columns = PyTuple_New(parts), *result = NULL;
  if (!columns) return NULL;
  for (Py_ssize_t part = 0; part < parts; part++) {
    PyObject *column = PySequence_Tuple(PyTuple_GetItem(args, part));
    if (!column || PyTuple_SetItem(columns, part, column)) goto done;
    Py_ssize_t count = PyTuple_Size(column);
    if (part && count != records) {
      PyErr_Format(PyExc_ValueError, "columns must have one length, but have %zd and %zd", records,
                   count);
      goto done;
    }
    records = count;
  }
  result = framed(columns, parts, records);
done:
  Py_DECREF(columns);
  return result;
}

static PyObject *py_use_instruction(PyObject *module, PyObject *is_used) {
  (void)module;
  int by_instruction = PyObject_IsTrue(is_used);
  if (by_instruction < 0) return NULL;
  choose_extend(by_instruction);
  return PyBool_FromLong(extend != extend_by_table);
}

static PyMethodDef methods[] = {
    {"cut", py_cut, METH_VARARGS,
     "cut(buffer, most)\n--\n\n"
     "Returns the whole records of a buffer up to the first damage, where they end, how many bytes\n"
     "the next one lacks, what is wrong with it, and its length."},
    {"frame", py_frame, METH_VARARGS,
     "frame(*columns)\n--\n\n"
     "Returns records as consecutive TFRecords. A record is what is at its place in all columns."},
    {"use_instruction", py_use_instruction, METH_O,
     "use_instruction(is_used)\n--\n\n"
     "Says whether checksums come from the processor's instruction, if it has one."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_framing", NULL, 0, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__framing(void) {
  fill_table();
  choose_extend(1);
  return PyModule_Create(&definition);
}
