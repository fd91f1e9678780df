//! The two requests that a network namespace of its own needs: loopback up, and the private address on it.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Loopback's index in every network namespace.
const LOOPBACK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Brings loopback up and gives it the address.
pub(super) fn bring_up(address: Ipv4Addr) -> io::Result<()> {
    // struct ifinfomsg: family, pad, type, index, flags, mask of the flags to change.
    let mut link = vec![0, 0, 0, 0];
    for word in [LOOPBACK, IFF_UP, IFF_UP] {
        link.extend(word.to_ne_bytes());
    }
    request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &link)?;

    // struct ifaddrmsg: family (AF_INET), prefix length, flags, scope, index; then two attributes.
    let mut add = vec![2, 32, 0, 0];
    add.extend(LOOPBACK.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        add.extend(8_u16.to_ne_bytes());
        add.extend(kind.to_ne_bytes());
        add.extend(address.octets());
    }
    request(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, &add)
}

fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    // No protocol named is NETLINK_ROUTE, whose number is 0.
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = Vec::with_capacity(16 + body.len());
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    rustix::net::send(&socket, &message, SendFlags::empty())?;

    let mut answer = [0; 512];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // The acknowledgement is an error message whose code, behind the header, is zero.
    let (kind, code) = match answer.get(..length.min(20)) {
        Some([_, _, _, _, k0, k1, _, _, _, _, _, _, _, _, _, _, c0, c1, c2, c3]) => {
            (u16::from_ne_bytes([*k0, *k1]), i32::from_ne_bytes([*c0, *c1, *c2, *c3]))
        }
        _ => return Err(io::Error::other("the kernel's netlink answer is too short")),
    };
    match (kind, code) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(-code)),
        (kind, _) => Err(io::Error::other(format!("the kernel's netlink answer is of type {kind}"))),
    }
}
