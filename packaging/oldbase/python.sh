#!/bin/bash
# Inside the old base: /src/openssl-* and /src/python3.11-* become /opt/openssl and /opt/python.
set -euo pipefail
cd /src/openssl-*/
./Configure --prefix=/opt/openssl --libdir=lib --openssldir=/etc/ssl no-tests shared > /src/openssl.log
make -j"$(nproc)" build_sw >> /src/openssl.log 2>&1
make install_sw >> /src/openssl.log 2>&1

cd /src/python3.11-*/
# Debian builds this module into its python; on its own it lacks the word that opens the core's headers.
grep -q Py_BUILD_CORE_MODULE Modules/pyexpat.c || sed -i '1i #define Py_BUILD_CORE_MODULE 1' Modules/pyexpat.c
# Newer than glibc 2.28, and Python does without them.
export ac_cv_func_sem_clockwait=no ac_cv_func_pthread_cond_clockwait=no
./configure --prefix=/opt/python --enable-shared --with-openssl=/opt/openssl --with-openssl-rpath=auto --without-ensurepip \
    --with-system-expat --with-system-libmpdec \
    CFLAGS="-include /src/oldest.h" LDFLAGS="-Wl,-rpath,/opt/python/lib" > /src/python.log
make -j"$(nproc)" >> /src/python.log 2>&1
make install >> /src/python.log 2>&1
/opt/python/bin/python3.11 -c 'import bz2, ctypes, decimal, lzma, pyexpat, ssl, uuid, zlib; print(ssl.OPENSSL_VERSION)'
# Where Debian's Python looks for the pip of a new virtual environment.
mkdir -p /usr/share/python-wheels && cp Lib/ensurepip/_bundled/*.whl /usr/share/python-wheels/
