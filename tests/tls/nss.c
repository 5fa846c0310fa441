/* SPDX-License-Identifier: Apache-2.0 */
/* As openssl.c, for a client that uses NSS: nss PORT. Its other descriptors are files, of which nothing is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nspr.h>
#include <nss.h>
#include <ssl.h>

#include "log.h"

static SECStatus any_certificate(void *arg, PRFileDesc *fd, PRBool check, PRBool server)
{
    (void)arg, (void)fd, (void)check, (void)server;
    return SECSuccess;
}

int main(int argc, char **argv)
{
    PRFileDesc *fd, *file;
    PRNetAddr address;
    char buf[64];
    int n;

    NEED(argc == 2);
    PR_Init(PR_USER_THREAD, PR_PRIORITY_NORMAL, 0);
    NEED(NSS_NoDB_Init(NULL) == SECSuccess);
    NEED(PR_StringToNetAddr("127.0.0.1", &address) == PR_SUCCESS);
    PR_InitializeNetAddr(PR_IpAddrNull, (PRUint16)atoi(argv[1]), &address);
    fd = PR_OpenTCPSocket(PR_AF_INET);
    NEED(fd && PR_Connect(fd, &address, PR_INTERVAL_NO_TIMEOUT) == PR_SUCCESS);
    fd = SSL_ImportFD(NULL, fd);
    NEED(fd);
    printf("new %p\n", (void *)fd);
    NEED(SSL_AuthCertificateHook(fd, any_certificate, NULL) == SECSuccess);
    NEED(SSL_ResetHandshake(fd, PR_FALSE) == SECSuccess);
    NEED(SSL_SetURL(fd, "localhost") == SECSuccess);
    NEED(PR_Write(fd, "hello", 5) == 5);
    print_bytes(fd, "tx", "hello", 5);
    NEED(PR_Recv(fd, buf, sizeof(buf), PR_MSG_PEEK, PR_INTERVAL_NO_TIMEOUT) > 0);
    n = PR_Recv(fd, buf, sizeof(buf), 0, PR_INTERVAL_NO_TIMEOUT);
    NEED(n > 0);
    print_bytes(fd, "rx", buf, n);
    file = PR_Open("/proc/self/comm", PR_RDONLY, 0);
    NEED(file && PR_Read(file, buf, sizeof(buf)) > 0);
    PR_Close(file);
    NEED(PR_Send(fd, "bye", 3, 0, PR_INTERVAL_NO_TIMEOUT) == 3);
    print_bytes(fd, "tx", "bye", 3);
    n = PR_Read(fd, buf, sizeof(buf));
    NEED(n > 0);
    print_bytes(fd, "rx", buf, n);
    PR_Close(fd);
    print_end();
    return 0;
}
