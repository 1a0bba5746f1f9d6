"""Texts with made-up identifiers in them, in the formats of three languages' countries.

`plant(random)` gives a text, the identifier that stands in it, and its kind. All numbers are drawn, with
check digits that are right; none is known to belong to anybody. Used by every test that has to prove
that no identifier reaches a place where it must not go.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

from stdnum import luhn
from stdnum.iso7064 import mod_11_10, mod_97_10

PROVINCES: Final = (11, 12, 31, 32, 33, 34, 35, 36, 51, 61, 64, 65, 71, 73, 91, 92, 94, 96)


@dataclass(frozen=True, slots=True)
class Planted:
    """A text, and the identifier in it as it is written there."""

    text: str
    value: str
    kind: str
    language: str


def digits(random: Random, count: int, first: str = string.digits) -> str:
    return random.choice(first) + "".join(random.choices(string.digits, k=count - 1))


def letters(
    random: Random, count: int, alphabet: str = string.ascii_letters + string.digits
) -> str:
    return "".join(random.choices(alphabet, k=count))


# --- Indonesia ------------------------------------------------------------------------------------


def nik(random: Random) -> str:
    """Place, day of birth (a woman's + 40), serial."""
    place = f"{random.choice(PROVINCES)}{random.choice([*range(1, 20), *range(71, 76)]):02}"
    day = random.randint(1, 28) + random.choice((0, 40))
    born = f"{day:02}{random.randint(1, 12):02}{random.randint(0, 99):02}"
    return f"{place}{random.randint(1, 20):02}{born}{random.randint(1, 9999):04}"


def nik_written(random: Random) -> str:
    number = nik(random)
    forms = (
        number,
        f"{number[:6]} {number[6:12]} {number[12:]}",
        f"{number[:4]}.{number[4:8]}.{number[8:12]}.{number[12:]}",
        " ".join(number),
    )
    return random.choice(forms)


def npwp(random: Random) -> str:
    """15 digits, dotted; or 16 digits, the old number behind a 0."""
    first = digits(random, 8)
    number = first + luhn.calc_check_digit(first) + digits(random, 3) + "000"
    dotted = f"{number[:2]}.{number[2:5]}.{number[5:8]}.{number[8]}-{number[9:12]}.{number[12:]}"
    return random.choice((dotted, number, "0" + number))


def indonesian_phone(random: Random) -> str:
    prefix = random.choice(("811", "812", "813", "821", "852", "856", "878", "895", "896"))
    middle, end = digits(random, 4), digits(random, random.choice((3, 4)))
    return random.choice(
        (
            f"0{prefix}{middle}{end}",
            f"0{prefix}-{middle}-{end}",
            f"+62 {prefix} {middle} {end}",
            f"+62{prefix}{middle}{end}",
            f"62{prefix}{middle}{end}",
            f"(+62) {prefix}-{middle}-{end}",
        )
    )


def indonesian_passport(random: Random) -> str:
    return random.choice("ABCEX") + digits(random, 7)


def account(count: int) -> Callable[[Random], str]:
    return lambda random: digits(random, count)


# --- everywhere -----------------------------------------------------------------------------------


def email(random: Random) -> str:
    name = random.choice(("siti", "budi.santoso", "j_doe", "anna-lena", "x", "o'neil", "müller"))
    host = random.choice(("example.co.id", "mail.example.com", "firma.example.de", "kantor.go.id"))
    return f"{name}{random.choice(('', '99', '+news'))}@{host}"


def card(random: Random) -> str:
    prefix, length = random.choice(
        (
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("3530", 16),
        )
    )
    number = prefix + digits(random, length - len(prefix) - 1)
    number += luhn.calc_check_digit(number)
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    return random.choice((number, grouped(number, sizes, " "), grouped(number, sizes, "-")))


def grouped(number: str, sizes: tuple[int, ...], gap: str) -> str:
    ends = [sum(sizes[: end + 1]) for end in range(len(sizes))]
    return gap.join(number[end - size : end] for size, end in zip(sizes, ends, strict=True))


def iban(country: str, bank: int, count: int) -> Callable[[Random], str]:
    """A country's letters, then `bank` letters and `count` digits behind the check digits."""

    def make(random: Random) -> str:
        inner = letters(random, bank, string.ascii_uppercase) + digits(random, count)
        number = f"{country}{mod_97_10.calc_check_digits(inner + country)}{inner}"
        fours = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
        return random.choice((number, fours))

    return make


def ipv4(random: Random) -> str:
    first = random.choice((8, 36, 81, 103, 202))
    return ".".join(map(str, (first, *(random.randint(1, 254) for _ in range(3)))))


def ipv6(random: Random) -> str:
    return "2001:db8:" + ":".join(f"{random.randint(1, 65535):x}" for _ in range(6))


def mac(random: Random) -> str:
    return random.choice(":-").join(f"{random.randint(16, 239):02x}" for _ in range(6))


def ssn(random: Random) -> str:
    return f"{random.randint(1, 665):03}-{random.randint(1, 99):02}-{random.randint(1, 9999):04}"


def american_phone(random: Random) -> str:
    area, office, line = (
        f"{random.randint(201, 989)}",
        f"{random.randint(200, 999)}",
        digits(random, 4),
    )
    return random.choice(
        (f"({area}) {office}-{line}", f"{area}-{office}-{line}", f"+1 {area} {office} {line}")
    )


def german_phone(random: Random) -> str:
    rest = digits(random, 8, "23456789")
    mobile = f"{random.choice(('151', '160', '170', '176'))}"
    return random.choice(
        (
            f"0{mobile} {rest}",
            f"+49 {mobile} {rest}",
            f"030 {rest}",
            f"+49 30 {rest}",
            f"0049 30 {rest}",
        )
    )


def german_tax(random: Random) -> str:
    """Ten digits of which exactly one stands twice, and the check digit."""
    chosen = random.sample(string.digits, 9)
    number = [*chosen, random.choice(chosen)]
    while number[0] == "0" or any(left == right for left, right in pairwise(number)):
        random.shuffle(number)
    whole = "".join(number)
    return whole + mod_11_10.calc_check_digit(whole)


def german_passport(random: Random) -> str:
    return random.choice("CFGHJK") + digits(random, 7) + random.choice(string.digits)


def born(form: str) -> Callable[[Random], str]:
    months = {
        "id": ("Januari", "Mei", "Agustus", "Desember"),
        "en": ("January", "May", "August", "December"),
        "de": ("Januar", "März", "Oktober", "Dezember"),
    }

    def make(random: Random) -> str:
        day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(1930, 2015)
        name = random.choice(months[form])
        return {
            "id": random.choice((f"{day:02}-{month:02}-{year}", f"{day} {name} {year}")),
            "en": random.choice(
                (f"{month}/{day}/{year}", f"{name} {day}, {year}", f"{year}-{month:02}-{day:02}")
            ),
            "de": random.choice((f"{day:02}.{month:02}.{year}", f"{day}. {name} {year}")),
        }[form]

    return make


SECRETS: Final[Mapping[str, Callable[[Random], str]]] = {
    "aws_key": lambda r: "AKIA" + letters(r, 16, string.ascii_uppercase + "234567"),
    "github_token": lambda r: "ghp_" + letters(r, 36),
    "gitlab_token": lambda r: "glpat-" + letters(r, 20),
    "slack_token": lambda r: f"xoxb-{digits(r, 12)}-{letters(r, 24)}",
    "stripe_key": lambda r: "sk_live_" + letters(r, 24),
    "google_api_key": lambda r: "AIza" + letters(r, 35),
    "openai_key": lambda r: "sk-proj-" + letters(r, 30) + "7" + letters(r, 20),
    "anthropic_key": lambda r: "sk-ant-api03-" + letters(r, 80),
    "huggingface_token": lambda r: "hf_" + letters(r, 34),
    "jwt": lambda r: f"eyJ{letters(r, 20)}.eyJ{letters(r, 40)}.{letters(r, 43)}",
    "daulat_key": lambda r: "daulat-" + letters(r, 43),
    "private_key": lambda r: (
        f"-----BEGIN PRIVATE KEY-----\n{letters(r, 64)}\n{letters(r, 40)}==\n-----END PRIVATE KEY-----"
    ),
}

FRAMES: Final[Mapping[str, Mapping[str, tuple[Callable[[Random], str], tuple[str, ...]]]]] = {
    "id": {
        "id_nik": (
            nik_written,
            ("NIK saya {}.", "KTP: {}", "Tolong daftarkan {} ya", '{{"nik": "{}"}}'),
        ),
        "id_kk": (nik, ("Nomor KK keluarga kami {}", "No. Kartu Keluarga: {}")),
        "id_npwp": (npwp, ("NPWP perusahaan: {}", "Nomor Pokok Wajib Pajak {} sudah aktif")),
        "passport": (
            indonesian_passport,
            ("Paspor saya nomor {}", "No. paspor: {} berlaku lima tahun"),
        ),
        "phone": (
            indonesian_phone,
            ("Hubungi {} sekarang", "WA ke {} saja", "nomornya {}, malam saja"),
        ),
        "bank_account": (account(10), ("Transfer ke rekening BCA {} a.n. Budi",)),
        "bank_account/mandiri": (account(13), ("Bayar ke Mandiri {} hari ini",)),
        "bank_account/bri": (account(15), ("Kirim ke BRI {} ya",)),
        "bank_account/bni": (account(10), ("No. rek BNI {} atas nama saya",)),
        "date_of_birth": (born("id"), ("Tanggal lahir: {}", "Dia lahir di Medan, {}")),
        "email": (email, ("Surel saya {}.", "kirim ke {} besok")),
        "payment_card": (card, ("Kartu kredit {} hilang", "bayar dengan {}")),
    },
    "en": {
        "email": (email, ("Write to {}.", "<{}> answered", "mailto:{}?subject=x")),
        "phone": (american_phone, ("Call me at {}!", "My number is {}.")),
        "payment_card": (card, ("Charge {} please", "The card {} exp 12/29", "paid with {}")),
        "us_ssn": (ssn, ("My SSN is {}", "social security number: {}", "on file: {}")),
        "iban": (iban("GB", 4, 14), ("Wire it to {} today", "IBAN: {}")),
        "ip_address": (ipv4, ("It came from {}", "host {} is down.")),
        "ip_address/6": (ipv6, ("Connect to [{}]", "from {} again")),
        "mac_address": (mac, ("The adapter {} is offline",)),
        "date_of_birth": (born("en"), ("She was born on {}.", "DOB: {}", "Date of birth {}")),
        "passport": (lambda r: digits(r, 9), ("My passport number is {}", "Passport no. {}")),
        "url_credentials": (
            lambda r: f"app:{letters(r, 12)}",
            ("postgres://{}@db.example.com/x", "clone https://{}@git.example.com/r.git"),
        ),
        "password": (
            lambda r: letters(r, 8) + "a7",
            ("password={}", "the password is {}", 'api_key: "{}"', '{{"token": "{}"}}'),
        ),
        "bearer_token": (lambda r: letters(r, 31) + "aB7", ("Authorization: Bearer {}",)),
        **{
            kind: (make, ("use {} for it", "KEY={}", 'client = Client("{}")'))
            for kind, make in SECRETS.items()
        },
    },
    "de": {
        "phone": (german_phone, ("Rufen Sie mich unter {} an", "Telefon: {}", "Mobil {}")),
        "iban": (iban("DE", 0, 18), ("Bitte überweisen Sie auf {}", "IBAN {} bei der Bank")),
        "iban/nl": (iban("NL", 4, 10), ("Rekening {} op naam",)),
        "de_tax_id": (german_tax, ("Meine Steuer-ID ist {}", "Steueridentifikationsnummer: {}")),
        "passport": (german_passport, ("Reisepass Nr. {}", "Mein Reisepass: {}")),
        "date_of_birth": (born("de"), ("geboren am {}", "Geburtsdatum: {}")),
        "email": (email, ("Schreiben Sie an {}.", "E-Mail: {}, danke")),
        "payment_card": (card, ("Meine Kreditkarte {} wurde gesperrt", "bezahlt mit {}")),
    },
}
"""Language, kind (and a variant behind a slash), how it is made, and what it stands in."""

FILLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": (
        "Selamat pagi.",
        "Mohon bantuannya untuk pesanan nomor 12.",
        "Terima kasih banyak!",
        "Rapat jam 10.30.",
    ),
    "en": (
        "Good morning.",
        "The order of 3 items came late.",
        "Thanks a lot!",
        "We met in 2019 \u2013 twice.",
    ),
    "de": (
        "Guten Morgen.",
        "Die Bestellung über 3 Stück kam spät.",
        "Vielen Dank!",
        "Wir sahen uns 2019.",
    ),
}
ZERO_WIDTH: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"


def plant(random: Random, *, disguise: bool = True) -> Planted:
    """A text with one identifier; one in five is disguised, where it is made of digits."""
    language = random.choice(list(FRAMES))
    kind = random.choice(list(FRAMES[language]))
    make, frames = FRAMES[language][kind]
    value = make(random)
    if disguise and kind not in SECRETS and random.random() < 0.2:
        value = disguised(random, value)
    parts = [random.choice(FILLERS[language]) for _ in range(random.randint(0, 6))]
    parts.insert(random.randint(0, len(parts)), random.choice(frames).format(value))
    gap = random.choice((" ", "\n", " — "))
    return Planted(gap.join(parts), value, kind.partition("/")[0], language)


def disguised(random: Random, value: str) -> str:
    """Full-width or Arabic digits, zero-width characters between digits, or odd spaces and dashes."""
    match random.randrange(4):
        case 0:
            return value.translate({48 + digit: 0xFF10 + digit for digit in range(10)})
        case 1:
            return value.translate({48 + digit: 0x660 + digit for digit in range(10)})
        case 2:
            hidden = random.choice(ZERO_WIDTH)
            middle = random.randint(1, len(value) - 1)
            return value[:middle] + hidden + value[middle:]
        case _:
            return value.replace(" ", "\u00a0").replace("-", "\u2011")
